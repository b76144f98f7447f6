-- include lib/also_write
-- include lib/close_book
-- Voids a cue: it takes no more entries and nothing is drawn. What it set aside stays so until
-- somebody says where it goes (window/give_back, or another cue at its opening): a void must not
-- turn a draw into a race. Once the cue's time may have come its entries are frozen with it, so
-- that its record tells who had entered. The ledger names the void: a torn one can be applied.
local function end_cue(book, shard, keys, cue, reason)
  local frozen_at = tonumber(redis.call('HGET', keys.cue, 'frozen_at') or 0)
  if frozen_at == 0 and shard.latest >= cue.at then
    frozen_at = shard.now
  end
  also_write(book, 'HSET', keys.cue, { 'state', 'void', 'reason', reason, 'voided_at', shard.now,
    'frozen_at', frozen_at })
  close_book(book, shard, keys, { 'z', cmsgpack.pack({ cue.id, reason, frozen_at }) })
end
