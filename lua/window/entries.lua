#!lua flags=no-writes
-- Reads a page of a frozen cue's entries (or, given that key, of what was awarded). Nothing enters
-- any more, so that every entry is on some page; one may be on two.
--
-- KEYS  sale cue entries
-- ARGV  caller_ms   the caller's clock
--       cursor      "0", then what the last page said, until that is "0"
--       count       about how many to read
-- REPLY {epoch, now, code (or ""), cursor, {buyer, entry, …}}
-- CODES j NOT_CLOSED, m CUE_UNKNOWN, u SALE_UNKNOWN, p PURGED

local k_sale, k_cue, k_entries = unpack(KEYS)
local caller_ms, cursor, count = unpack(ARGV)

-- include lib/load_shard
-- include lib/load_cue

local NOT_CLOSED = 'j' -- outcomes

local shard, refusal, time = load_shard(k_sale, caller_ms)
if not shard then
  return { 0, time, refusal, '0', {} }
end
local epoch = tonumber(shard.epoch)
local cue, unknown = load_cue(k_cue)
if not cue or cue.state == 'open' then
  return { epoch, shard.now, unknown or NOT_CLOSED, '0', {} }
end
local page = redis.call('HSCAN', k_entries, cursor, 'COUNT', count)
return { epoch, shard.now, '', page[1], page[2] }
