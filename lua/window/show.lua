#!lua flags=no-writes
-- Shows a cue in one step: all that its hash keeps, and what is still set aside. Whoever only looks
-- on may call it, so it is given no sealed key: what may be told of those is in the cue's hash.
--
-- KEYS  sale stock cue
-- ARGV  caller_ms   the caller's clock
-- REPLY {epoch, now, code (or ""), {name, value, …}, {sku, set aside at first, set aside now, …}};
--       a value named "freed" says how often places that fell free came back to the reserve
-- CODES m CUE_UNKNOWN, u SALE_UNKNOWN, p PURGED

local k_sale, k_stock, k_cue = unpack(KEYS)
local caller_ms = ARGV[1]

-- include lib/load_shard
-- include lib/load_cue

local shard, refusal, time = load_shard(k_sale, caller_ms)
if not shard then
  return { 0, time, refusal, {}, {} }
end
local epoch = tonumber(shard.epoch)
local cue, unknown = load_cue(k_cue)
if not cue then
  return { epoch, shard.now, unknown, {}, {} }
end
local units = {}
for k = 1, #cue.lines, 4 do
  local u = #units
  local now = redis.call('HGET', k_stock, cue.lines[k + 1] .. 'x:' .. cue.id)
  units[u + 1], units[u + 2], units[u + 3] = cue.lines[k], cue.lines[k + 2], tonumber(now or 0)
end
local fields = redis.call('HGETALL', k_cue)
fields[#fields + 1] = 'freed'
fields[#fields + 1] = redis.call('HGET', k_stock, 'y:' .. cue.id) or '0'
return { epoch, shard.now, '', fields, units }
