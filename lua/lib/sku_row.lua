-- include lib/read_rows
-- The counters of one sku, as they will be.
local function sku_row(book, k_stock, index)
  if not book.rows[index] then
    read_rows(book, k_stock, { { index, 1 } })
  end
  return book.rows[index]
end
