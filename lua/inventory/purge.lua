#!lua
-- Deletes an ended sale's data and leaves a tombstone, so that its id stays used.
--
-- KEYS  sale skus stock buyers ledger deadlines restocks readers cues lags room admitted vacant
--       caps
-- ARGV  caller_ms   the caller's clock, for the check of the server's
--       number      how many cues the sale has; all their keys follow the others
--       hashes      over how many hashes the places of the waiting room are spread, 0 without one;
--                   all of them follow
-- CODES p PURGED, n NOT_ENDED, h HOLDS_OUTSTANDING, d READERS_BEHIND, t CUE_OPEN,
--       T TRY_AGAIN, u SALE_UNKNOWN
-- FULL  all of it

local keys = {
  sale = KEYS[1], skus = KEYS[2], stock = KEYS[3], buyers = KEYS[4], ledger = KEYS[5],
  deadlines = KEYS[6], restocks = KEYS[7], readers = KEYS[8], cues = KEYS[9],
  lags = KEYS[10], room = KEYS[11], admitted = KEYS[12], vacant = KEYS[13], caps = KEYS[14],
}
local caller_ms, number, hashes = unpack(ARGV)
local every_key = KEYS

-- include lib/load_shard
-- include lib/new_book
-- include lib/expire_due
-- include lib/close_book
-- include lib/load_room
-- include lib/counter_of
-- include lib/damaged

local PURGED, NOT_ENDED, HOLDS_OUTSTANDING, READERS_BEHIND = 'p', 'n', 'h', 'd' -- outcomes
local CUE_OPEN, TRY_AGAIN = 't', 'T' -- outcomes
local SWEEP_PER_CALL = 128

local shard, refusal, time = load_shard(keys.sale, caller_ms)
if not shard then
  local replayed = refusal == PURGED and cmsgpack.pack({ 1, '', 0, 1 }) or ''
  return { 0, time, 0, refusal, replayed }
end
-- Read before the sweep, which is a step of its own: a wrong type must stop that too.
local readers = redis.call('HVALS', keys.readers)
local book = new_book()
expire_due(book, shard, keys, SWEEP_PER_CALL)
close_book(book, shard, keys, {})

local function refuse()
  if shard.state ~= 'ended' then
    return NOT_ENDED
  end
  local skus = redis.call('HLEN', keys.skus)
  if skus == 0 then
    damaged('the key skus')
  end
  for index = 0, skus - 1 do
    local units = redis.call('HMGET', keys.stock, index .. 'h', index .. 'x')
    if counter_of(units[2], index .. 'x') > 0 then
      return CUE_OPEN
    elseif counter_of(units[1], index .. 'h') > 0 then
      return shard.due and shard.now >= shard.due and TRY_AGAIN or HOLDS_OUTSTANDING
    end
  end
  for _, finished in ipairs(readers) do
    if tonumber(finished) < shard.sequence then
      return READERS_BEHIND
    end
  end
  -- Neither can be opened after the end: TRY_AGAIN says that the caller did not know of one.
  local room = load_room(keys.room)
  local missed = redis.call('HLEN', keys.cues) ~= tonumber(number)
    or (room and room.hashes or 0) ~= tonumber(hashes)
  return missed and TRY_AGAIN or nil
end

local code = refuse()
if not code then
  redis.call('UNLINK', unpack(every_key))
  redis.call('HSET', keys.sale, 'format', '1', 'state', 'purged', 'epoch', shard.epoch)
end
return { tonumber(shard.epoch), shard.now, 0, code or PURGED, '' }
