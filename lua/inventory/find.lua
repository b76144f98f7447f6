#!lua flags=no-writes
-- Shows every hold of some buyers; a due hold is shown as expired.
--
-- KEYS  sale stock buyers
-- ARGV  caller_ms   the caller's clock, for the check of the server's
--       buyers      msgpack: array of buyers
-- REPLY {epoch, now, the time by the server's clock if that is not believed (else now), sequence,
--        code ("" or u, p), msgpack: a list of holds per buyer}
-- CODES u SALE_UNKNOWN, p PURGED

local k_sale, k_stock, k_buyers = unpack(KEYS)
local caller_ms, buyers_blob = unpack(ARGV)

-- include lib/load_shard
-- include lib/show_record

local shard, refusal, time = load_shard(k_sale, caller_ms)
if not shard then
  return { 0, time, time, 0, refusal, '' }
end
local records = redis.call('HMGET', k_buyers, unpack(cmsgpack.unpack(buyers_blob)))
local shown, names = {}, {}
for i, record in ipairs(records) do
  shown[i] = show_record(record, shard.now, k_stock, names)
end
return {
  tonumber(shard.epoch), shard.now, shard.latest, shard.sequence, '', cmsgpack.pack(shown),
}
