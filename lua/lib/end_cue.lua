-- include lib/close_book
-- include lib/close_reserve
-- Voids a cue: what it set aside is available again. Says why in the cue itself, last of all: a
-- wrong type elsewhere must stop that too.
local function end_cue(book, shard, keys, cue, reason)
  close_reserve(book, keys.stock, cue.id)
  close_book(book, shard, keys, {})
  redis.call('HSET', keys.cue, 'state', 'void', 'reason', reason)
end
