#!lua
-- Adds what viewers' players report of their lag to the sale's histogram, and shows it. Nobody
-- checks the reports: they choose a cap, they decide about no entry.
--
-- KEYS  sale lags
-- ARGV  caller_ms   the caller's clock
--       counts      msgpack: {bucket, reports, …}; {} only shows
-- REPLY {epoch, now, code (or ""), {bucket, reports, …}}
-- CODES u SALE_UNKNOWN, p PURGED, ! MALFORMED

local k_sale, k_lags = unpack(KEYS)
local caller_ms, counts_blob = unpack(ARGV)

-- include lib/load_shard

local MALFORMED = '!' -- outcomes
local LAG_BUCKETS, REPORTS_MAX = 481, 1e12

local shard, refusal, time = load_shard(k_sale, caller_ms)
if not shard then
  return { 0, time, refusal, {} }
end
local epoch, counts = tonumber(shard.epoch), cmsgpack.unpack(counts_blob)
local buckets, sums = {}, {}
for k = 1, #counts, 2 do
  local bucket, reports = counts[k], counts[k + 1]
  if type(bucket) ~= 'number' or bucket % 1 ~= 0 or bucket < 0 or bucket >= LAG_BUCKETS
    or type(reports) ~= 'number' or reports % 1 ~= 0 or reports < 1 or reports > REPORTS_MAX then
    return { epoch, shard.now, MALFORMED, {} }
  end
  buckets[#buckets + 1] = bucket
end
local before = buckets[1] and redis.call('HMGET', k_lags, unpack(buckets)) or {}
for n, bucket in ipairs(buckets) do
  sums[2 * n - 1], sums[2 * n] = bucket, (tonumber(before[n]) or 0) + counts[2 * n]
end
if sums[1] then
  redis.call('HSET', k_lags, unpack(sums))
end
return { epoch, shard.now, '', redis.call('HGETALL', k_lags) }
