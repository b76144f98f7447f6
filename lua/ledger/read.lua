#!lua flags=no-writes
-- Reads ledger entries that follow a sequence, with what was trimmed before them.
--
-- KEYS  sale ledger readers
-- ARGV  caller_ms   the caller's clock, for the check of the server's
--       after       the sequence after which to read
--       count       at most how many entries
-- REPLY {epoch, now, sequence, code ("" or u, p), checkpoint sequence, checkpoint, cursor,
--        {reader, finished, …}, {entry, …}}
-- CODES u SALE_UNKNOWN, p PURGED

local k_sale, k_ledger, k_readers = unpack(KEYS)
local caller_ms, after, count = unpack(ARGV)

-- include lib/load_shard
-- include lib/cursor_of

local shard, refusal, time = load_shard(k_sale, caller_ms)
if not shard then
  return { 0, time, 0, refusal, 0, '', 0, {}, {} }
end
local checkpoint = redis.call('HMGET', k_sale, 'checkpoint_sequence', 'checkpoint')
local entries = redis.call('XRANGE', k_ledger, '(' .. shard.epoch .. '-' .. after, '+',
  'COUNT', count)
return {
  tonumber(shard.epoch), shard.now, shard.sequence, '', tonumber(checkpoint[1]), checkpoint[2],
  (cursor_of(shard)), redis.call('HGETALL', k_readers), entries,
}
