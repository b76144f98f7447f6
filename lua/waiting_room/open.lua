#!lua
-- Opens a sale's waiting room, once: the same definition again changes nothing.
--
-- KEYS  sale room admitted vacant places
-- ARGV  caller_ms   the caller's clock, for the check of the server's
--       definition  what was asked for, as canonical JSON, kept for comparison and for readers
--       rules       msgpack: {opens or 0, turn ttl, slot, conversion, margin, places_max, one place
--                   a buyer, key_max or false, hashes}
--       rate        places a second, as a decimal number
--       fixed       JSON: id of the key, commitment to the seed
-- CODES o OPENED, Q CONFLICT, Z ENDED, J CLOCK_JUMP, u SALE_UNKNOWN, p PURGED, ! MALFORMED

local k_sale, k_room, k_admitted, k_vacant = unpack(KEYS)
local k_places = { unpack(KEYS, 5) } -- all of them
local caller_ms, definition, rules_blob, rate_text, fixed = unpack(ARGV)

-- include lib/load_shard

local OPENED, CONFLICT, ENDED, CLOCK_JUMP, MALFORMED = 'o', 'Q', 'Z', 'J', '!' -- outcomes
local DURATION_MAX, TIME_MAX, PLACES_MAX, HASHES_MAX = 2592000000, 9999999999999, 1e8, 250
local CONVERSION_MAX, RATE_MAX, TURN_SLOTS = 1000, 1000000, 32

local shard, refusal, time = load_shard(k_sale, caller_ms)
if not shard then
  return { 0, time, 0, refusal, '' }
end
local epoch = tonumber(shard.epoch)
local known = redis.call('HGET', k_room, 'definition')
if known then
  local same = known == definition
  return { epoch, shard.now, 0, same and OPENED or CONFLICT,
    same and cmsgpack.pack({ 1, '', 0, 1 }) or '' }
end
if shard.state == 'ended' or shard.jumped then
  return { epoch, shard.now, 0, shard.state == 'ended' and ENDED or CLOCK_JUMP, '' }
end
-- Numbers of a room that was lost would be given once more.
if redis.call('EXISTS', k_admitted, k_vacant, unpack(k_places)) > 0 then
  return redis.error_reply('FLASHSALE_REMAINS keys of this waiting room exist without the room')
end

local function is_count(value, low, high)
  return type(value) == 'number' and value >= low and value <= high and value % 1 == 0
end
local rules = cmsgpack.unpack(rules_blob)
local rate = tonumber(string.match(rate_text, '^%d+%.?%d*$'))
local opens, ttl, slot, conversion, margin, places_max, one_place, key_max, hashes = unpack(rules)
local fits = #rules == 9 and is_count(opens, 0, TIME_MAX) and is_count(ttl, 1, DURATION_MAX)
  and slot == math.ceil(ttl / TURN_SLOTS)
  and type(conversion) == 'number' and conversion > 0 and conversion <= CONVERSION_MAX
  and type(margin) == 'number' and margin >= 0 and margin <= 1
  and is_count(places_max, 1, PLACES_MAX) and type(one_place) == 'boolean'
  and (one_place or not shard.admission)
  and (key_max == false or (one_place and is_count(key_max, 1, PLACES_MAX)))
  and is_count(hashes, 1, HASHES_MAX)
  and rate and rate > 0 and rate <= RATE_MAX
if not fits then
  return { epoch, shard.now, 0, MALFORMED, '' }
end
redis.call('HSET', k_room, 'format', '1', 'definition', definition, 'state', 'running',
  'rules', rules_blob, 'rate', rate_text, 'fixed', fixed, 'joined', 0,
  'present', shard.now >= opens and 0 or '', 'seed', '', 'serving', 0, 'over', 0, 'units', 0,
  'arrived', 0, 'passed', 0, 'left', 0, 'vacant', 0)
redis.call('HSET', k_sale, 'now', shard.now)
return { epoch, shard.now, 0, OPENED, '' }
