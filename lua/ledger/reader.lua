#!lua
-- Registers a reader of the ledger, moves it on, or forgets it. Nothing a registered reader
-- has not finished is trimmed or purged.
--
-- KEYS  sale readers
-- ARGV  caller_ms   the caller's clock, for the check of the server's
--       verb        "register", "ack" or "forget"
--       reader      its name
--       sequence    the last sequence it has finished
-- REPLY {epoch, now, finished, code ("" or u, p, ! or one of the below)}
-- CODES * MEMORY_FULL, u SALE_UNKNOWN, p PURGED, ! MALFORMED
-- FULL  all but a new reader

local k_sale, k_readers = unpack(KEYS)
local caller_ms, verb, reader, sequence_text = unpack(ARGV)
local is_full = false -- true in the twin for a full memory, see flashsale.scripts

-- include lib/load_shard
-- include lib/is_id

local MEMORY_FULL, MALFORMED, READERS_MAX = '*', '!', 64 -- outcomes
local shard, refusal, time = load_shard(k_sale, caller_ms)
if not shard then
  return { 0, time, 0, refusal }
end
local epoch, sequence = tonumber(shard.epoch), tonumber(sequence_text)
if not is_id(reader) or not sequence or sequence % 1 ~= 0 or sequence < 0
  or sequence > shard.sequence then
  return { epoch, shard.now, 0, MALFORMED }
end
local before = tonumber(redis.call('HGET', k_readers, reader))
if verb == 'forget' then
  redis.call('HDEL', k_readers, reader)
  return { epoch, shard.now, before or 0, '' }
end
if verb ~= 'register' and (verb ~= 'ack' or not before) then
  return { epoch, shard.now, 0, MALFORMED }
end
if verb == 'register' then
  -- A reader that registers again goes on where it was; a new one starts behind the checkpoint.
  local start = tonumber(redis.call('HGET', k_sale, 'checkpoint_sequence'))
  if not before and redis.call('HLEN', k_readers) >= READERS_MAX then
    return { epoch, shard.now, 0, MALFORMED }
  end
  if is_full and not before then
    return { epoch, shard.now, 0, MEMORY_FULL }
  end
  sequence = before or start
end
local finished = math.max(before or 0, sequence)
redis.call('HSET', k_readers, reader, finished)
return { epoch, shard.now, finished, '' }
