#!lua
-- Deletes an ended sale's data and leaves a tombstone, so that its id stays used.
--
-- KEYS  sale skus stock buyers ledger deadlines restocks readers
-- ARGV  caller_ms   the caller's clock, for the check of the server's
-- CODES p PURGED, n NOT_ENDED, h HOLDS_OUTSTANDING, d READERS_BEHIND, u SALE_UNKNOWN

local k_sale, k_skus, k_stock, k_buyers, k_ledger, k_deadlines, k_restocks, k_readers =
  unpack(KEYS)
local caller_ms = ARGV[1]

-- include lib/load_shard

local PURGED, NOT_ENDED, HOLDS_OUTSTANDING, READERS_BEHIND = 'p', 'n', 'h', 'd' -- outcomes

local shard, refusal, time = load_shard(k_sale, caller_ms)
if not shard then
  local replayed = refusal == PURGED and cmsgpack.pack({ 1, '', 0, 1 }) or ''
  return { 0, time, 0, refusal, replayed }
end
if shard.state ~= 'ended' then
  return { tonumber(shard.epoch), shard.now, 0, NOT_ENDED, '' }
end
for index = 0, redis.call('HLEN', k_skus) - 1 do
  if tonumber(redis.call('HGET', k_stock, index .. 'h')) > 0 then
    return { tonumber(shard.epoch), shard.now, 0, HOLDS_OUTSTANDING, '' }
  end
end
for _, finished in ipairs(redis.call('HVALS', k_readers)) do
  if tonumber(finished) < shard.sequence then
    return { tonumber(shard.epoch), shard.now, 0, READERS_BEHIND, '' }
  end
end
redis.call('UNLINK', k_sale, k_skus, k_stock, k_buyers, k_ledger, k_deadlines, k_restocks,
  k_readers)
redis.call('HSET', k_sale, 'format', '1', 'state', 'purged', 'epoch', shard.epoch)
return { tonumber(shard.epoch), shard.now, 0, PURGED, '' }
