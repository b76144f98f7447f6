#!lua flags=no-writes
-- Shows a sale in one step: definition, state, position and every sku's units.
--
-- KEYS  sale skus stock buyers
-- ARGV  caller_ms   the caller's clock, for the check of the server's
-- REPLY {epoch, now, sequence, code ("" or u, p), definition, state, buyers, due ("" or ms),
--        {n, l, t, a, x, h, s, … per sku}}
-- CODES u SALE_UNKNOWN, p PURGED

local k_sale, k_skus, k_stock, k_buyers = unpack(KEYS)
local caller_ms = ARGV[1]

-- include lib/load_shard
-- include lib/damaged

local shard, refusal, time = load_shard(k_sale, caller_ms)
if not shard then
  return { 0, time, 0, refusal, '', '', 0, '', {} }
end
-- A hundred skus in one command: a command for each takes three times as long.
local units, fields, skus = {}, { 'n', 'l', 't', 'a', 'x', 'h', 's' }, redis.call('HLEN', k_skus)
if skus == 0 then
  damaged('the key skus')
end
for from = 0, skus - 1, 100 do
  local some = {}
  for index = from, math.min(from + 99, skus - 1) do
    for _, name in ipairs(fields) do
      some[#some + 1] = index .. name
    end
  end
  for k, value in ipairs(redis.call('HMGET', k_stock, unpack(some))) do
    units[#units + 1] = value or damaged('the field ' .. some[k] .. ' of the key stock')
  end
end
return {
  tonumber(shard.epoch), shard.now, shard.sequence, '',
  redis.call('HGET', k_sale, 'definition'), shard.state, redis.call('HLEN', k_buyers),
  shard.due or '', units,
}
