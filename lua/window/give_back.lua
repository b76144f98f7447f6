#!lua
-- Puts what a void cue still sets aside on open sale; replayed if nothing is left of it.
--
-- KEYS  sale skus stock buyers ledger deadlines cue
-- ARGV  caller_ms   the caller's clock, for the check of the server's
-- CODES = GIVEN_BACK, j NOT_CLOSED, f FROZEN, g SETTLED, J CLOCK_JUMP, m CUE_UNKNOWN,
--       u SALE_UNKNOWN, p PURGED
-- FULL  all of it

local keys = {
  sale = KEYS[1], skus = KEYS[2], stock = KEYS[3], buyers = KEYS[4], ledger = KEYS[5],
  deadlines = KEYS[6], cue = KEYS[7],
}
local caller_ms = ARGV[1]

-- include lib/load_shard
-- include lib/load_cue
-- include lib/new_book
-- include lib/close_book
-- include lib/close_reserve
-- include lib/why_kept

local GIVEN_BACK = '=' -- outcomes

local shard, refusal, time = load_shard(keys.sale, caller_ms)
if not shard then
  return { 0, time, 0, refusal, '' }
end
local epoch = tonumber(shard.epoch)
local cue, unknown = load_cue(keys.cue)
if not cue then
  return { epoch, shard.now, 0, unknown, '' }
elseif cue.state == 'void' and redis.call('HEXISTS', keys.stock, 'x:' .. cue.id) == 0 then
  return { epoch, shard.now, 0, GIVEN_BACK, cmsgpack.pack({ 1, '', 0, 1 }) }
end
local refused = why_kept(shard, cue, keys.cue)
if refused then
  return { epoch, shard.now, 0, refused, '' }
end
local book = new_book()
close_reserve(book, keys.stock, cue.id)
close_book(book, shard, keys, {})
return { epoch, shard.now, 0, GIVEN_BACK, '' }
