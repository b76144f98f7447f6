-- include lib/holds_of
-- The buyer's hold of this id, or nil.
local function find_hold(book, buyer, id)
  local holds = holds_of(book, buyer)
  book.work = book.work + #holds / 8
  for _, hold in ipairs(holds) do
    if hold.id == id then
      return hold
    end
  end
  return nil
end
