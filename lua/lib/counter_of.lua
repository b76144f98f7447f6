-- include lib/damaged
-- A counter of the stock hash as it was read.
local function counter_of(text, field)
  return tonumber(text) or damaged('the field ' .. field .. ' of the key stock')
end
