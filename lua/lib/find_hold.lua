-- include lib/holds_of
-- The buyer's hold of this id, or nil.
local function find_hold(book, buyer, id)
  for _, hold in ipairs(holds_of(book, buyer)) do
    if hold.id == id then
      return hold
    end
  end
  return nil
end
