-- include lib/damaged
-- A counter of the stock hash as it was read. Where every call of one hold comes by, it is called
-- only for what is no number, which spares a call and often a string.
local function counter_of(text, field)
  return tonumber(text) or damaged('the field ' .. field .. ' of the key stock')
end
