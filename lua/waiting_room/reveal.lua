#!lua
-- Reveals the seed by which those present at the opening are ordered, once their numbers are fixed.
-- Any process that has the key may; the first seed stays.
--
-- KEYS  sale room
-- ARGV  caller_ms   the caller's clock, for the check of the server's
--       seed        64 hexadecimal digits
-- REPLY {epoch, now, code ("" or why not)}
-- CODES N NOT_OPEN, J CLOCK_JUMP, 9 ROOM_UNKNOWN, u SALE_UNKNOWN, p PURGED, ! MALFORMED
-- FULL  all of it: the one seed

local k_sale, k_room = unpack(KEYS)
local caller_ms, seed = unpack(ARGV)

-- include lib/load_shard
-- include lib/load_room
-- include lib/fix_present
-- include lib/is_doubtful

local NOT_OPEN, CLOCK_JUMP, MALFORMED = 'N', 'J', '!' -- outcomes

local shard, refusal, time = load_shard(k_sale, caller_ms)
if not shard then
  return { 0, time, refusal }
end
local epoch = tonumber(shard.epoch)
local room, unknown = load_room(k_room)
if not room then
  return { epoch, shard.now, unknown }
elseif not string.find(seed, '^[0-9a-f]+$') or #seed ~= 64 then
  return { epoch, shard.now, MALFORMED }
end
fix_present(room, shard.now)
if not room.present then
  return { epoch, shard.now, is_doubtful(shard, room.opens) and CLOCK_JUMP or NOT_OPEN }
end
if not room.seed then
  redis.call('HSET', k_room, 'present', room.present, 'seed', seed)
  redis.call('HSET', k_sale, 'now', shard.now)
end
return { epoch, shard.now, '' }
