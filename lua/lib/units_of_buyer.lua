-- include lib/holds_of
-- include lib/parse_basket
-- include lib/sold_lines
-- What counts for the limits: a buyer's held plus sold units, per sku index and in all. Added up
-- once a call until the buyer's record changes: it may have thousands of lines.
local function units_of_buyer(book, buyer)
  local units = book.units[buyer]
  if units then
    return units[1], units[2]
  end
  local per_sku, total = {}, 0
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
