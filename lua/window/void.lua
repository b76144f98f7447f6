#!lua
-- Voids a cue: it does not count, and keeps what it set aside until somebody says where it goes.
-- FROZEN if winners have their holds already: then it must be settled.
--
-- KEYS  sale skus stock buyers ledger deadlines cue awarded
-- ARGV  caller_ms   the caller's clock, for the check of the server's
--       reason      what people are told
-- CODES x VOID, f FROZEN, g SETTLED, m CUE_UNKNOWN, u SALE_UNKNOWN, p PURGED
-- FULL  all of it

local keys = {
  sale = KEYS[1], skus = KEYS[2], stock = KEYS[3], buyers = KEYS[4], ledger = KEYS[5],
  deadlines = KEYS[6], cue = KEYS[7], awarded = KEYS[8],
}
local caller_ms, reason = unpack(ARGV)

-- include lib/load_shard
-- include lib/load_cue
-- include lib/new_book
-- include lib/end_cue

local VOID, FROZEN, SETTLED = 'x', 'f', 'g' -- outcomes

local shard, refusal, time = load_shard(keys.sale, caller_ms)
if not shard then
  return { 0, time, 0, refusal, '' }
end
local epoch = tonumber(shard.epoch)
local cue, unknown = load_cue(keys.cue)
if not cue then
  return { epoch, shard.now, 0, unknown, '' }
elseif cue.state == 'void' then
  return { epoch, shard.now, 0, VOID, cmsgpack.pack({ 1, '', 0, 1 }) }
elseif cue.state == 'revealed' then
  return { epoch, shard.now, 0, SETTLED, '' }
elseif redis.call('HLEN', keys.awarded) > 0 then
  return { epoch, shard.now, 0, FROZEN, '' }
end
end_cue(new_book(), shard, keys, cue, reason)
return { epoch, shard.now, 0, VOID, '' }
