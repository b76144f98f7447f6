-- What `admitted` keeps of a buyer: the number admitted, when its turn ends (0: given back), the
-- slot in which it began and whether the buyer is done with it.
local function parse_turn(text)
  if not text then
    return nil
  end
  local number, ends, slot, done = string.match(text, '^(%d+):(%d+):(%d+):([01])$')
  return {
    number = tonumber(number), ends = tonumber(ends), slot = tonumber(slot), done = done == '1',
  }
end
