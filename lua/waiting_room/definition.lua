#!lua flags=no-writes
-- Tells what a waiting room was opened with, and moves nothing on: also while memory is full.
--
-- KEYS  sale room
-- ARGV  caller_ms   the caller's clock
-- REPLY {epoch, now, code ("" or 9, u, p), definition as JSON or ""}
-- CODES 9 ROOM_UNKNOWN, u SALE_UNKNOWN, p PURGED

local k_sale, k_room = unpack(KEYS)
local caller_ms = ARGV[1]

-- include lib/load_shard
-- include lib/load_room

local shard, refusal, time = load_shard(k_sale, caller_ms)
if not shard then
  return { 0, time, refusal, '' }
end
local room, unknown = load_room(k_room)
if not room then
  return { tonumber(shard.epoch), shard.now, unknown, '' }
end
return { tonumber(shard.epoch), shard.now, '', redis.call('HGET', k_room, 'definition') }
