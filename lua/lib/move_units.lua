-- include lib/sku_row
-- Moves the units of these lines from one counter (a, h, s) to another.
local function move_units(book, k_stock, lines, from, to)
  for k = 1, #lines, 2 do
    local row = sku_row(book, k_stock, lines[k])
    row[from] = row[from] - lines[k + 1]
    row[to] = row[to] + lines[k + 1]
    book.changed_rows[lines[k]] = true
  end
end
