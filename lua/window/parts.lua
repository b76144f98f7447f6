#!lua flags=no-writes
-- Shows of all that is set aside which part is whose cue's, and the sequence of that moment.
--
-- KEYS  sale stock
-- ARGV  caller_ms   the caller's clock
-- REPLY {epoch, now, sequence, code ("" or u, p), {field, units, …}}; a field is "INDEXx:CUE"
-- CODES u SALE_UNKNOWN, p PURGED

local k_sale, k_stock = unpack(KEYS)
local caller_ms = ARGV[1]

-- include lib/load_shard

local shard, refusal, time = load_shard(k_sale, caller_ms)
if not shard then
  return { 0, time, 0, refusal, {} }
end
local all, parts = redis.call('HGETALL', k_stock), {}
for k = 1, #all, 2 do
  if string.find(all[k], '^%d+x:') then
    parts[#parts + 1], parts[#parts + 2] = all[k], all[k + 1]
  end
end
return { tonumber(shard.epoch), shard.now, shard.sequence, '', parts }
