#!lua flags=no-writes
-- Shows of what is set aside which part is whose cue's, a page of it, and the sequence of that
-- moment. A part may come twice and none that was there throughout is left out (HSCAN's promise).
--
-- KEYS  sale stock
-- ARGV  caller_ms   the caller's clock
--       cursor      "0" to begin, then the one of the last reply, until it is "0" again
-- REPLY {epoch, now, sequence, code ("" or u, p), cursor, {field, units, …}}; a field
--       is "INDEXx:CUE"
-- CODES u SALE_UNKNOWN, p PURGED

local k_sale, k_stock = unpack(KEYS)
local caller_ms, cursor = unpack(ARGV)

-- include lib/load_shard

local shard, refusal, time = load_shard(k_sale, caller_ms)
if not shard then
  return { 0, time, 0, refusal, '0', {} }
end
local page, parts = redis.call('HSCAN', k_stock, cursor, 'COUNT', 2000), {}
local all = page[2]
for k = 1, #all, 2 do
  if string.find(all[k], '^%d+x:') then
    parts[#parts + 1], parts[#parts + 2] = all[k], all[k + 1]
  end
end
return { tonumber(shard.epoch), shard.now, shard.sequence, '', page[1], parts }
