-- include lib/also_write
-- include lib/close_book
-- include lib/close_reserve
-- Voids a cue: what it set aside is available again, and the cue itself says why.
local function end_cue(book, shard, keys, cue, reason)
  close_reserve(book, keys.stock, cue.id)
  also_write(book, 'HSET', keys.cue, { 'state', 'void', 'reason', reason or '' })
  close_book(book, shard, keys, {})
end
