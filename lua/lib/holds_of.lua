-- include lib/parse_record
-- The holds of a buyer whose record was read, as a list that may be changed after `touch`.
local function holds_of(book, buyer)
  local holds = book.holds[buyer]
  if not holds then
    holds = parse_record(book.records[buyer])
    book.holds[buyer] = holds
  end
  return holds
end
