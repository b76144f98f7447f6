-- Has close_book write further values of a key, together with all else that must agree. The key's
-- type must have been proven by reading it, and `values` be complete texts and numbers: nothing
-- after the first write may fail.
local function also_write(book, command, key, values)
  if values[1] ~= nil then
    book.writes[#book.writes + 1] = { command = command, key = key, values = values }
  end
end
