#!lua
-- Notes when the digest of a cue's entries has been published, at the place that the cue was opened
-- with: the first time stays, and nobody is awarded anything until the wait from then is over.
-- Published when somebody may have known the public seed, it proves nothing: the cue is void.
--
-- KEYS  sale skus stock buyers ledger deadlines cue
-- ARGV  caller_ms   the caller's clock, for the check of the server's
--       known       "1" if the public seed's value was there already, else ""
-- REPLY {epoch, now, code, published at (0: it is not)}
-- CODES f FROZEN, g SETTLED, j NOT_CLOSED, x VOID, J CLOCK_JUMP, m CUE_UNKNOWN, u SALE_UNKNOWN,
--       p PURGED, ! MALFORMED
-- FULL  all of it: a digest that is not published in time voids the cue

local keys = {
  sale = KEYS[1], skus = KEYS[2], stock = KEYS[3], buyers = KEYS[4], ledger = KEYS[5],
  deadlines = KEYS[6], cue = KEYS[7],
}
local caller_ms, known = unpack(ARGV)

-- include lib/load_shard
-- include lib/load_cue
-- include lib/new_book
-- include lib/end_cue

local FROZEN, SETTLED, NOT_CLOSED, VOID = 'f', 'g', 'j', 'x' -- outcomes
local CLOCK_JUMP, MALFORMED = 'J', '!' -- outcomes

local shard, refusal, time = load_shard(keys.sale, caller_ms)
if not shard then
  return { 0, time, refusal, 0 }
end
local epoch = tonumber(shard.epoch)
local cue, unknown = load_cue(keys.cue)
if not cue then
  return { epoch, shard.now, unknown, 0 }
end
local at, code = cue.published_at or 0
if cue.state == 'void' then
  code = VOID
elseif not cue.publish_wait then
  code = MALFORMED
elseif cue.state == 'revealed' then
  code = SETTLED
elseif cue.state == 'open' or not redis.call('HGET', keys.cue, 'digest') then
  code = NOT_CLOSED
elseif at > 0 then
  code = FROZEN
elseif known == '1' or (cue.entropy_at and shard.now >= cue.entropy_at) then
  end_cue(new_book(), shard, keys, cue, 'published after the public seed was known')
  code = VOID
elseif shard.jumped then
  code = CLOCK_JUMP -- it begins a time of its own
else
  at, code = shard.now, FROZEN
  redis.call('HSET', keys.cue, 'published_at', at)
  redis.call('HSET', keys.sale, 'now', at)
end
return { epoch, shard.now, code, at }
