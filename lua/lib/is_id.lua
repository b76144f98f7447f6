-- Whether a value is an identifier (the rule of flashsale.limits).
local function is_id(value)
  return type(value) == 'string' and #value <= 64 and string.find(value, '^[%w._~@+=/-]+$') ~= nil
end
