#!lua
-- Creates a sale, once for ever: the same definition again changes nothing, another is a
-- conflict, a purged id stays used.
--
-- KEYS  sale skus stock buyers ledger deadlines restocks readers cues lags room admitted vacant
--       caps
-- ARGV  caller_ms   the caller's clock: a server far ahead of it opens nothing
--       definition  the sale as canonical JSON, kept for comparison and for readers
--       rules       msgpack: {ttl, opens, closes, limit, holds_max, extend_max, buyers_max,
--                   admission, key_holds_max}, false where there is none
--       skus        msgpack: {id, stock, limit or "", …}
-- CODES o OPENED, Q CONFLICT, p PURGED, J CLOCK_JUMP, ! MALFORMED

local k_sale, k_skus, k_stock, k_buyers, k_ledger, k_deadlines, k_restocks, k_readers, k_cues,
  k_lags, k_room, k_admitted, k_vacant, k_caps = unpack(KEYS)
local caller_ms, definition, rules_blob, skus_blob = unpack(ARGV)

-- include lib/in_pieces
-- include lib/is_id

local OPENED, CONFLICT, PURGED, CLOCK_JUMP, MALFORMED = 'o', 'Q', 'p', 'J', '!' -- outcomes
local SKUS_MAX, STOCK_MAX, CLOCK_JUMP_MAX = 1000, 1e12, 60000
local DURATION_MAX, TIME_MAX, HOLDS_MAX, BUYERS_MAX = 2592000000, 9999999999999, 64, 10000000

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local sale = redis.call('HMGET', k_sale, 'format', 'state', 'definition', 'epoch')
if sale[1] then
  if sale[1] ~= '1' then
    error({ err = 'FLASHSALE_FORMAT the sale is in format ' .. sale[1] .. ', this script reads 1' })
  end
  if sale[2] == 'purged' then
    return { 0, now, 0, PURGED, '' }
  end
  if sale[3] ~= definition then
    return { tonumber(sale[4]), now, 0, CONFLICT, '' }
  end
  return { tonumber(sale[4]), now, 0, OPENED, cmsgpack.pack({ 1, '', 0, 1 }) }
end

-- Time never goes back in a shard, so a sale opened in the future would stay there.
local caller = tonumber(string.match(caller_ms, '^%d+$'))
if not caller then
  return redis.error_reply('FLASHSALE_MALFORMED the caller\'s time must be milliseconds')
elseif now > caller + CLOCK_JUMP_MAX then
  return { 0, now, 0, CLOCK_JUMP, '' }
end

-- Nothing may lie where the sale's other keys go: those are the remains of something lost.
local remains = redis.call('EXISTS', k_skus, k_stock, k_buyers, k_ledger, k_deadlines,
  k_restocks, k_readers, k_cues, k_lags, k_room, k_admitted, k_vacant, k_caps)
if remains > 0 then
  return redis.error_reply('FLASHSALE_REMAINS keys of this sale exist without the sale itself')
end

local rules, skus = cmsgpack.unpack(rules_blob), cmsgpack.unpack(skus_blob)
if #rules ~= 9 or type(rules[8]) ~= 'boolean' or #skus == 0 or #skus % 3 ~= 0
  or #skus > 3 * SKUS_MAX then
  return { 0, now, 0, MALFORMED, '' }
end
local function is_count(value, low, high)
  return type(value) == 'number' and value >= low and value <= high and value % 1 == 0
end
local bounds = {
  { 1, DURATION_MAX }, { 0, TIME_MAX }, { 0, TIME_MAX }, { 1, STOCK_MAX }, { 1, HOLDS_MAX },
  { 0, DURATION_MAX }, { 1, BUYERS_MAX }, false, { 1, STOCK_MAX },
}
for i, bound in ipairs(bounds) do
  local none = rules[i] == false and ((i >= 2 and i <= 4) or i == 9)
  if bound and not none and not is_count(rules[i], bound[1], bound[2]) then
    return { 0, now, 0, MALFORMED, '' }
  end
end
local indexes, counters = {}, {}
for k = 1, #skus, 3 do
  local id, stock, limit, index = skus[k], skus[k + 1], skus[k + 2], (k - 1) / 3
  if not is_id(id) or indexes[id] or not is_count(stock, 0, STOCK_MAX)
    or (limit ~= '' and not is_count(limit, 1, STOCK_MAX)) then
    return { 0, now, 0, MALFORMED, '' }
  end
  indexes[id] = index
  for name, value in pairs({ n = id, l = limit, t = stock, a = stock, x = 0, h = 0, s = 0 }) do
    counters[#counters + 1] = index .. name
    counters[#counters + 1] = value
  end
end
local fields = {}
for id, index in pairs(indexes) do
  fields[#fields + 1] = id
  fields[#fields + 1] = index
end

redis.call('XADD', k_ledger, '1-1', 't', now, 'o', definition)
in_pieces('HSET', k_skus, fields)
in_pieces('HSET', k_stock, counters) -- fourteen values a sku
redis.call('HSET', k_sale, 'format', '1', 'definition', definition, 'state', 'running',
  'rules', rules_blob, 'epoch', 1, 'sequence', 1, 'now', now, 'due', '', 'cursor', 1,
  'seats', 0, 'checkpoint', '', 'checkpoint_sequence', 0)
return { 1, now, 0, OPENED, '' }
