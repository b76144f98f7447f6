-- include lib/also_write
-- include lib/close_book
-- Voids a cue: it takes no more entries and nothing is drawn. What it set aside stays so until
-- somebody says where it goes (window/give_back, or another cue at its opening): a void must not
-- turn a draw into a race. Once somebody has entered, or the cue's time may have come, the entries
-- are frozen with it, so that its record tells who had entered. The ledger names the void: a torn
-- one can be applied.
local function end_cue(book, shard, keys, cue, reason)
  local told = redis.call('HMGET', keys.cue, 'frozen_at', 'entered')
  local frozen_at = tonumber(told[1] or 0)
  if frozen_at == 0 and (shard.latest >= cue.at or tonumber(told[2] or 0) > 0) then
    frozen_at = shard.now
  end
  also_write(book, 'HSET', keys.cue, { 'state', 'void', 'reason', reason, 'voided_at', shard.now,
    'frozen_at', frozen_at })
  close_book(book, shard, keys, { 'z', cmsgpack.pack({ cue.id, reason, frozen_at }) })
end
