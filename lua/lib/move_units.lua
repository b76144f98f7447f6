-- include lib/read_rows
-- include lib/sku_row
-- Moves the units of these lines from one counter (a, h, s) to another.
local function move_units(book, k_stock, lines, from, to)
  if #lines > 2 then
    book.work = book.work + #lines
    read_rows(book, k_stock, { lines })
  end
  for k = 1, #lines, 2 do
    local index, qty = lines[k], lines[k + 1]
    local row = sku_row(book, k_stock, index)
    row[from], row[to] = row[from] - qty, row[to] + qty
    book.changed_rows[index] = true
  end
end
