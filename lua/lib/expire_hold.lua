-- include lib/give_back
-- include lib/note_event
-- include lib/parse_basket
-- include lib/touch
-- Ends a held hold whose deadline has passed.
local function expire_hold(book, keys, buyer, hold)
  hold.state = 'e'
  if hold.moved then
    book.deadlines[buyer .. '|' .. hold.id] = false
  end
  give_back(book, keys, hold, parse_basket(hold.basket))
  note_event(book, 'e', buyer, hold.id, hold.basket)
  touch(book, buyer)
  book.work = book.work + 8 + #hold.basket / 8
end
