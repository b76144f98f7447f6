#!lua
-- Trims the ledger up to an entry and keeps the balances at it as the checkpoint. Never passes
-- a registered reader, the cursor of the deadlines, or the last entry. A call trims a bounded
-- number of entries, with a checkpoint behind them: of a long ledger piece by piece.
--
-- KEYS  sale ledger readers
-- ARGV  caller_ms   the caller's clock, for the check of the server's
--       before      the checkpoint's sequence as the caller knows it
--       upto        the last sequence to trim, at most 1,000 more than `before`
--       checkpoint  the balances after that entry, JSON
-- REPLY {epoch, now, checkpoint sequence now, code ("" or u, p, d READERS_BEHIND, Q CONFLICT)}
-- CODES d READERS_BEHIND, Q CONFLICT, u SALE_UNKNOWN, p PURGED, ! MALFORMED
-- FULL  all of it

local k_sale, k_ledger, k_readers = unpack(KEYS)
local caller_ms, before_text, upto_text, checkpoint = unpack(ARGV)

-- include lib/load_shard
-- include lib/cursor_of

local READERS_BEHIND, CONFLICT, MALFORMED = 'd', 'Q', '!' -- outcomes
local TRIM_MAX = 1000
local shard, refusal, time = load_shard(k_sale, caller_ms)
if not shard then
  return { 0, time, 0, refusal }
end
local epoch = tonumber(shard.epoch)
local known = tonumber(redis.call('HGET', k_sale, 'checkpoint_sequence'))
local before, upto = tonumber(before_text), tonumber(upto_text)
if not before or not upto or upto <= before then
  return { epoch, shard.now, known, MALFORMED }
end
if before ~= known then
  return { epoch, shard.now, known, CONFLICT }
end
local bound = math.min(cursor_of(shard), shard.sequence) - 1
for _, finished in ipairs(redis.call('HVALS', k_readers)) do
  bound = math.min(bound, tonumber(finished))
end
if upto > bound then
  return { epoch, shard.now, known, READERS_BEHIND }
end
if upto - before > TRIM_MAX then
  return { epoch, shard.now, known, MALFORMED }
end
redis.call('XRANGE', k_ledger, '-', '+', 'COUNT', 1) -- proves the type before the first write
-- The balances first: they stand for what is trimmed, which nothing could tell again.
redis.call('HSET', k_sale, 'checkpoint_sequence', upto, 'checkpoint', checkpoint)
redis.call('XTRIM', k_ledger, 'MINID', shard.epoch .. '-' .. (upto + 1))
return { epoch, shard.now, upto, '' }
