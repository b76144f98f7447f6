-- Whether a value is a whole number of units, 1 to 1,000,000. (`nan` fails every comparison.)
local function is_quantity(value)
  return type(value) == 'number' and value >= 1 and value <= 1000000 and value % 1 == 0
end
