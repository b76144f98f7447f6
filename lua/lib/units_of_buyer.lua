-- include lib/holds_of
-- include lib/parse_basket
-- include lib/sku_row
-- include lib/sold_lines
-- What counts for the limits of these lines: a buyer's held plus sold units, per sku index and in
-- all; nothing is counted where there is no limit. Added up once a call until the buyer's record
-- changes: it may have thousands of lines.
local function units_of_buyer(book, shard, keys, buyer, wanted)
  local limited = shard.limit
  for k = 1, #wanted, 2 do
    limited = limited or sku_row(book, keys.stock, wanted[k]).limit
  end
  local units = book.units[buyer] or { {}, 0 }
  if not limited or book.units[buyer] then
    return units[1], units[2]
  end
  local per_sku, total = units[1], 0
  for _, hold in ipairs(holds_of(book, buyer)) do
    local lines = hold.state == 'h' and parse_basket(hold.basket) or sold_lines(hold)
    book.work = book.work + 1 + #lines / 2 + (hold.refunds and #hold.refunds * 8 or 0)
    for k = 1, #lines, 2 do
      per_sku[lines[k]] = (per_sku[lines[k]] or 0) + lines[k + 1]
      total = total + lines[k + 1]
    end
  end
  book.units[buyer] = { per_sku, total }
  return per_sku, total
end
