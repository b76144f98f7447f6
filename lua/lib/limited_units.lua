-- include lib/sku_row
-- include lib/units_of_buyer
-- A buyer's units that count for the limits of these lines, by sku and in all; where there is no
-- limit none is counted: nil, 0.
local function limited_units(book, shard, keys, buyer, lines)
  local limited = shard.limit
  for k = 1, #lines, 2 do
    limited = limited or sku_row(book, keys.stock, lines[k]).limit
  end
  if not limited then
    return nil, 0
  end
  return units_of_buyer(book, buyer)
end
