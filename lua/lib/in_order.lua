-- A batch that comes hash by hash, in its own order again: `sizes` says how many each hash has,
-- `spots` which of the batch each is; nil if the sizes do not fit. A spot named twice, or none of
-- them, leaves a number in the list: whoever looks at the buyers finds that.
local function in_order(grouped, sizes, spots)
  local sum = 0
  for w = 1, #sizes do
    local size = sizes[w]
    if type(size) ~= 'number' or size < 1 or size % 1 ~= 0 then
      return nil
    end
    sum = sum + size
  end
  if sum ~= #grouped then
    return nil
  end
  local list = { unpack(spots) } -- of its length at once: growing costs more
  for p = 1, sum do
    local spot = spots[p]
    if spot + 0 ~= spot then -- a text, which the list would keep
      return nil
    end
    list[spot] = grouped[p]
  end
  return list
end
