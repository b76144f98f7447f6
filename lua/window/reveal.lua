#!lua
-- Reveals a cue's result: from now on buyers may ask for it, and the seed is public. What winners
-- give up or do not pay for is kept for the next in order until the reserve ends, a deadline like a
-- hold's, counted from the end of the winners' time to pay. Nothing is kept where nobody is left to
-- whom it could go.
--
-- KEYS  sale skus stock buyers ledger deadlines cue secrets awarded
-- ARGV  caller_ms   the caller's clock, for the check of the server's
--       drawn       how many were drawn
--       freed       how often places had fallen free when the last of the next in order was asked
--       server_seed  in hexadecimal
--       entropy     "" or the public seed's value, in hexadecimal
-- REPLY {epoch, now, code, reserve ends at (0: it has)}; TRY_AGAIN: they were drawn by other seeds;
--       FROZEN: not all of them have been judged, or places have fallen free since: ask the next
-- CODES g SETTLED, f FROZEN, j NOT_CLOSED, x VOID, T TRY_AGAIN, J CLOCK_JUMP, m CUE_UNKNOWN,
--       u SALE_UNKNOWN, p PURGED

local keys = {
  sale = KEYS[1], skus = KEYS[2], stock = KEYS[3], buyers = KEYS[4], ledger = KEYS[5],
  deadlines = KEYS[6], cue = KEYS[7], secrets = KEYS[8], awarded = KEYS[9],
}
local caller_ms, drawn, freed, server_seed, entropy = unpack(ARGV)

-- include lib/load_shard
-- include lib/load_cue
-- include lib/new_book
-- include lib/also_write
-- include lib/close_book
-- include lib/close_reserve
-- include lib/damaged

local SETTLED, FROZEN, NOT_CLOSED, VOID, CLOCK_JUMP = 'g', 'f', 'j', 'x', 'J' -- outcomes
local TRY_AGAIN = 'T' -- outcomes

local shard, refusal, time = load_shard(keys.sale, caller_ms)
if not shard then
  return { 0, time, refusal, 0 }
end
local epoch = tonumber(shard.epoch)
local cue, unknown = load_cue(keys.cue)
local told = redis.call('HMGET', keys.cue, 'digest', 'entrants')
local seeds = redis.call('HMGET', keys.secrets, 'server_seed', 'entropy')
if not cue then
  return { epoch, shard.now, unknown, 0 }
elseif cue.state == 'void' then
  return { epoch, shard.now, VOID, 0 }
elseif seeds[1] and (seeds[1] ~= server_seed or seeds[2] ~= entropy) then
  return { epoch, shard.now, TRY_AGAIN, 0 }
elseif cue.state == 'revealed' then
  local ends = redis.call('HEXISTS', keys.stock, 'x:' .. cue.id) == 1
    and tonumber(redis.call('HGET', keys.cue, 'reserve_until')) or 0
  return { epoch, shard.now, SETTLED, ends }
elseif cue.state == 'open' or not told[1] or shard.latest < cue.reveals then
  return { epoch, shard.now, NOT_CLOSED, 0 }
elseif shard.now < cue.awards then
  return { epoch, shard.now, FROZEN, 0 }
elseif shard.jumped then
  return { epoch, shard.now, CLOCK_JUMP, 0 }
end
local judged = redis.call('HLEN', keys.awarded)
local freed_now = tonumber(redis.call('HGET', keys.stock, 'y:' .. cue.id) or 0)
if judged < tonumber(drawn) or freed_now ~= tonumber(freed) then
  return { epoch, shard.now, FROZEN, 0 }
end
local entrants = tonumber(told[2]) or damaged('the field entrants of the cue ' .. cue.id)
redis.call('ZCARD', keys.deadlines) -- proves the type before the first write
local book, ends = new_book(), 0
if cue.reserve > 0 and judged < entrants then
  ends = shard.now + shard.ttl + cue.reserve
  shard.due = math.min(shard.due or ends, ends)
  also_write(book, 'ZADD', keys.deadlines, { ends, '|' .. cue.id })
else
  close_reserve(book, keys.stock, cue.id)
end
also_write(book, 'HSET', keys.cue, { 'state', 'revealed', 'revealed_at', shard.now,
  'reserve_until', ends, 'server_seed', server_seed, 'entropy', entropy, 'drawn', drawn })
close_book(book, shard, keys, {})
return { epoch, shard.now, SETTLED, ends }
