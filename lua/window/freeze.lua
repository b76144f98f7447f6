#!lua
-- Freezes a cue's entries once it has closed, and keeps their digest: first called with "", which
-- ends the entering for ever, then with the digest of what was read. Too late for the public seed,
-- either voids the cue, because then somebody may have known it. A void cue that froze its entries
-- keeps their digest as well. Another digest than the one kept is a CONFLICT.
--
-- KEYS  sale skus stock buyers ledger deadlines cue secrets
-- ARGV  caller_ms   the caller's clock, for the check of the server's
--       digest      "" or the digest of the entrants, in hexadecimal
--       entrants    how many there are
--       known       "1" if the public seed's value was there already, whatever the clock says
-- REPLY {epoch, now, code, frozen at, digest or "", server seed, entropy}: the seeds by which the
--       first were drawn, "" before, in hexadecimal; for whoever goes on with the settlement
-- CODES f FROZEN, g SETTLED, j NOT_CLOSED, x VOID, Q CONFLICT, J CLOCK_JUMP, m CUE_UNKNOWN,
--       u SALE_UNKNOWN, p PURGED
-- FULL  all of it: a cue that is not frozen in time is void

local keys = {
  sale = KEYS[1], skus = KEYS[2], stock = KEYS[3], buyers = KEYS[4], ledger = KEYS[5],
  deadlines = KEYS[6], cue = KEYS[7], secrets = KEYS[8],
}
local caller_ms, digest, entrants, known = unpack(ARGV)

-- include lib/load_shard
-- include lib/load_cue
-- include lib/is_doubtful
-- include lib/new_book
-- include lib/end_cue

local FROZEN, SETTLED, NOT_CLOSED, VOID, CONFLICT = 'f', 'g', 'j', 'x', 'Q' -- outcomes
local CLOCK_JUMP = 'J' -- outcomes

local shard, refusal, time = load_shard(keys.sale, caller_ms)
if not shard then
  return { 0, time, refusal, 0, '', '', '' }
end
local cue, unknown = load_cue(keys.cue)
if not cue then
  return { tonumber(shard.epoch), shard.now, unknown, 0, '', '', '' }
end
local told = redis.call('HMGET', keys.cue, 'frozen_at', 'digest')
local seeds = redis.call('HMGET', keys.secrets, 'server_seed', 'entropy')
local code
-- Keeps the first digest; a code if it was another's.
local function keep_digest()
  if digest == '' or told[2] == digest then
    return nil
  elseif told[2] then
    return CONFLICT
  end
  told[2] = digest
  redis.call('HSET', keys.cue, 'digest', digest, 'entrants', entrants, 'digest_at', shard.now)
  return nil
end

if cue.state == 'void' then
  code = (tonumber(told[1]) or 0) > 0 and keep_digest() or VOID
elseif cue.state == 'revealed' then
  code = SETTLED
elseif not told[2] and (known == '1' or (cue.entropy_at and shard.now >= cue.entropy_at)) then
  end_cue(new_book(), shard, keys, cue, 'frozen after the public seed was known')
  code = VOID
elseif cue.state == 'open' and shard.latest < cue.closes then
  code = NOT_CLOSED
elseif (cue.state == 'open' and is_doubtful(shard, cue.closes))
  or (cue.entropy_at and not told[2] and is_doubtful(shard, cue.entropy_at)) then
  code = CLOCK_JUMP
else
  code = FROZEN
  if cue.state == 'open' then
    told[1] = shard.now
    redis.call('HSET', keys.cue, 'state', 'frozen', 'frozen_at', shard.now)
    redis.call('HSET', keys.sale, 'now', shard.now)
  end
  code = keep_digest() or code
end
return {
  tonumber(shard.epoch), shard.now, code, tonumber(told[1]) or 0, told[2] or '', seeds[1] or '',
  seeds[2] or '',
}
