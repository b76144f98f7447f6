#!lua flags=no-writes
-- Lists a sale's cues: at most 1,000.
--
-- KEYS  sale cues
-- ARGV  caller_ms   the caller's clock
-- REPLY {epoch, now, code ("" or u, p), {id, sequence of the ledger at its opening, …}}
-- CODES u SALE_UNKNOWN, p PURGED

local k_sale, k_cues = unpack(KEYS)
local caller_ms = ARGV[1]

-- include lib/load_shard

local shard, refusal, time = load_shard(k_sale, caller_ms)
if not shard then
  return { 0, time, refusal, {} }
end
return { tonumber(shard.epoch), shard.now, '', redis.call('HGETALL', k_cues) }
