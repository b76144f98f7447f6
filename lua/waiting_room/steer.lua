#!lua
-- Stops and resumes the calling of places, and changes its rate.
--
-- KEYS  sale room
-- ARGV  caller_ms   the caller's clock, for the check of the server's
--       state       "running", "paused", or "" to leave it
--       rate        places a second as a decimal number, or "" to leave it
-- REPLY {epoch, now, code ("" or why not)}
-- CODES 9 ROOM_UNKNOWN, u SALE_UNKNOWN, p PURGED, ! MALFORMED
-- FULL  all of it

local k_sale, k_room = unpack(KEYS)
local caller_ms, state, rate_text = unpack(ARGV)

-- include lib/load_shard
-- include lib/load_room

local MALFORMED = '!' -- outcomes
local RATE_MAX = 1000000

local shard, refusal, time = load_shard(k_sale, caller_ms)
if not shard then
  return { 0, time, refusal }
end
local epoch = tonumber(shard.epoch)
local room, unknown = load_room(k_room)
if not room then
  return { epoch, shard.now, unknown }
end
local rate = room.rate
if rate_text ~= '' then
  rate = tonumber(string.match(rate_text, '^%d+%.?%d*$'))
end
local fits = state == '' or state == 'running' or state == 'paused'
if not fits or not rate or rate <= 0 or rate > RATE_MAX then
  return { epoch, shard.now, MALFORMED }
end
-- What gathered at the old rate is not called in one go: one place at most. And no more than that
-- gathered: whoever steers again and again must not call places by it, nor keep them from it.
local bucket = redis.call('HMGET', k_room, 'tokens', 'tokens_at')
local tokens, tokens_at = tonumber(bucket[1]), tonumber(bucket[2])
redis.call('HSET', k_room, 'state', state ~= '' and state or room.state,
  'rate', rate_text ~= '' and rate_text or room.rate)
if tokens_at then -- else calling has not begun, and nothing gathers before that
  if room.state == 'running' then
    tokens = tokens + math.max(0, shard.now - tokens_at) * room.rate / 1000
  end
  redis.call('HSET', k_room, 'tokens', string.format('%.9f', math.min(1, tokens)),
    'tokens_at', shard.now)
end
redis.call('HSET', k_sale, 'now', shard.now)
return { epoch, shard.now, '' }
