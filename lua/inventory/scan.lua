#!lua flags=no-writes
-- Shows a page of all buyers with their holds, as stored: a due hold is still held. A buyer may
-- come twice and none that was there throughout is left out (HSCAN's promise).
--
-- KEYS  sale stock buyers
-- ARGV  caller_ms   the caller's clock, for the check of the server's
--       cursor      "0" to begin, then the one of the last reply, until it is "0" again
--       count       about how many buyers
-- REPLY {epoch, now, sequence, code ("" or u, p), cursor, msgpack: {buyer, holds, …}}
-- CODES u SALE_UNKNOWN, p PURGED

local k_sale, k_stock, k_buyers = unpack(KEYS)
local caller_ms, cursor, count = unpack(ARGV)

-- include lib/load_shard
-- include lib/show_record

local shard, refusal, time = load_shard(k_sale, caller_ms)
if not shard then
  return { 0, time, 0, refusal, '0', '' }
end
local page = redis.call('HSCAN', k_buyers, cursor, 'COUNT', count)
local shown, names = {}, {}
for k = 1, #page[2], 2 do
  shown[k] = page[2][k]
  shown[k + 1] = show_record(page[2][k + 1], -1, k_stock, names)
end
return { tonumber(shard.epoch), shard.now, shard.sequence, '', page[1], cmsgpack.pack(shown) }
