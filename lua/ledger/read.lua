#!lua flags=no-writes
-- Reads ledger entries that follow a sequence, with what was trimmed before them.
--
-- KEYS  sale ledger readers
-- ARGV  caller_ms   the caller's clock, for the check of the server's
--       after       the sequence after which to read
--       count       at most how many entries; fewer come, but one, where they are large
-- REPLY {epoch, now, sequence, code ("" or u, p), checkpoint sequence, checkpoint, cursor,
--        {reader, finished, …}, {entry, …}}
-- CODES u SALE_UNKNOWN, p PURGED

local k_sale, k_ledger, k_readers = unpack(KEYS)
local caller_ms, after, count = unpack(ARGV)

-- include lib/load_shard
-- include lib/cursor_of
-- include lib/damaged

local shard, refusal, time = load_shard(k_sale, caller_ms)
if not shard then
  return { 0, time, 0, refusal, 0, '', 0, {}, {} }
end
local checkpoint = redis.call('HMGET', k_sale, 'checkpoint_sequence', 'checkpoint')
local trimmed = string.match(checkpoint[1] or '', '^%d+$')
  or damaged('the field checkpoint_sequence of the key sale')
local balances = checkpoint[2] or damaged('the field checkpoint of the key sale')
local PAGE_BYTES = 1048576
local entries, bytes, from, step = {}, 0, '(' .. shard.epoch .. '-' .. after, 1
while #entries < tonumber(count) and bytes < PAGE_BYTES do
  local some = redis.call('XRANGE', k_ledger, from, '+', 'COUNT',
    math.min(step, tonumber(count) - #entries))
  for _, entry in ipairs(some) do
    entries[#entries + 1] = entry
    for _, value in ipairs(entry[2]) do
      bytes = bytes + #value
    end
  end
  if #some < step then
    break
  end
  from = '(' .. some[#some][1]
  -- The next are likely to be as large as those before.
  step = math.max(1, math.min(256, 4 * step, math.floor(#entries * (PAGE_BYTES / bytes - 1))))
end
return {
  tonumber(shard.epoch), shard.now, shard.sequence, '', tonumber(trimmed), balances,
  (cursor_of(shard)), redis.call('HGETALL', k_readers), entries,
}
