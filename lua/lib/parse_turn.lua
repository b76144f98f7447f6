-- What `admitted` keeps of a buyer: the number admitted, when its turn ends, the slot in which it
-- began, and how far it is used: 0 not at all, w the buyer wanted units when there were none (they
-- are counted), 1 the buyer is done with it.
local function parse_turn(text)
  if not text then
    return nil
  end
  local number, ends, slot, used = string.match(text, '^(%d+):(%d+):(%d+):([0w1])$')
  return {
    number = tonumber(number), ends = tonumber(ends), slot = tonumber(slot), used = used,
  }
end
