-- Marks a buyer's record for writing.
local function touch(book, buyer)
  if book.units[buyer] then -- to set a field to nil that is not there would make the table grow
    book.units[buyer] = nil
  end
  if not book.is_touched[buyer] then
    book.is_touched[buyer] = true
    book.touched[#book.touched + 1] = buyer
    if not book.records[buyer] then
      book.new_buyers = book.new_buyers + 1
    end
  end
end
