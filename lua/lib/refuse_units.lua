-- include lib/read_rows
-- include lib/sku_row
-- Why these lines cannot be taken from stock for a buyer who has `per_sku` and `total` units
-- already: an outcome code and the index of the first line that cannot (nil if it is the sale's own
-- limit of several), or nil if they can. Limits come before stock. `s` is SOLD_OUT while
-- unpaid holds may still return enough; TRY_AGAIN while these may be due. Where all of them would
-- not be enough it is SOLD_OUT, however many ledger entries the sweep has still to walk over: after
-- a surge of paid orders those are many, and nothing comes of them.
local function refuse_units(book, shard, keys, lines, per_sku, total)
  local LIMIT_REACHED, TRY_AGAIN, SOLD_OUT, SOLD_OUT_MAY_RETURN = 'L', 'T', 'S', 's' -- outcomes
  local lacking, may_return = false, true
  if #lines > 2 then
    book.work = book.work + #lines / 2
    read_rows(book, keys.stock, { lines })
  end
  for k = 1, #lines, 2 do
    local row, qty = sku_row(book, keys.stock, lines[k]), lines[k + 1]
    if row.limit and (per_sku[lines[k]] or 0) + qty > row.limit then
      return LIMIT_REACHED, lines[k]
    end
    total = total + qty
    lacking = lacking or row.a < qty and lines[k]
    may_return = may_return and row.a + row.h + row.x >= qty
  end
  if shard.limit and total > shard.limit then
    return LIMIT_REACHED, not lines[3] and lines[1] or nil
  end
  if not lacking then
    return nil
  end
  if not may_return then
    return SOLD_OUT, lacking
  end
  if shard.due and shard.now >= shard.due then
    return TRY_AGAIN
  end
  return SOLD_OUT_MAY_RETURN, lacking
end
