-- include lib/move_units
-- include lib/note_event
-- include lib/parse_basket
-- include lib/touch
-- Ends a held hold whose deadline has passed.
local function expire_hold(book, keys, buyer, hold)
  hold.state = 'e'
  if hold.moved then
    book.deadlines[buyer .. '|' .. hold.id] = false
  end
  move_units(book, keys.stock, parse_basket(hold.basket), 'h', 'a')
  note_event(book, 'e', buyer, hold.id, hold.basket)
  touch(book, buyer)
end
