-- include lib/sku_row
-- Moves units of one sku from available to what is set aside for a cue; back, if `qty` is
-- negative. The cue's own part is a field of the stock hash, so every script can see to it.
local function set_aside(book, k_stock, cue, index, qty)
  book.work = book.work + 4
  local row, field = sku_row(book, k_stock, index), index .. 'x:' .. cue
  row.a, row.x, book.seats = row.a - qty, row.x + qty, book.seats + qty
  book.changed_rows[index] = true
  local part = book.parts[field] or tonumber(redis.call('HGET', k_stock, field) or 0)
  book.parts[field] = part + qty
  local moves = book.aside[cue] or {}
  moves[index] = (moves[index] or 0) + qty
  book.aside[cue] = moves
end
