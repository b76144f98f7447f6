-- include lib/parse_record
-- The holds of a buyer whose record was read, as a list that may be changed after `touch`.
local function holds_of(book, buyer)
  local holds = book.holds[buyer]
  if not holds then
    local record = book.records[buyer]
    holds = parse_record(record)
    book.work = book.work + 2 * #holds + (record and #record / 64 or 0)
    book.holds[buyer] = holds
  end
  return holds
end
