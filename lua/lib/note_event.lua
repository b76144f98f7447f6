-- Adds an event to the ledger entry of this call. `extra` is a value per event (a deadline, an
-- op_id), or nil.
local function note_event(book, letter, buyer, id, basket, extra)
  local event = book.events[letter]
  if not event then
    event = { buyers = {}, ids = {}, baskets = {}, extra = {} }
    book.events[letter] = event
  end
  local n = #event.buyers + 1
  event.buyers[n] = buyer
  event.ids[n] = id
  event.baskets[n] = basket
  event.extra[n] = extra
end
