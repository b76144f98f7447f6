-- Whether this call has decided nothing, and read nothing of the stock, that is not yet written:
-- only then may a step of its own be written before it.
local function is_clean(book)
  return #book.touched == 0 and next(book.rows) == nil
end
