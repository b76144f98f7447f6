#!lua
-- Moves the room on and shows it, with the sale's units: what a process keeps for a second, and
-- works out everybody's position from.
--
-- KEYS  sale skus stock buyers ledger deadlines room vacant
-- ARGV  caller_ms   the caller's clock, for the check of the server's
-- REPLY {epoch, now, code ("" or 9, u, p), why nobody may hold now ("" or a code), {field, value, …
--        of the room}, {available, set aside, held, sold}, {outstanding turns, their bound,
--        conversion as a decimal number, the time before which nobody is called or 0, 1 if more
--        could be called at once but for the places that one call looks at, else 0}}
-- CODES N NOT_OPEN, K CLOSED, P PAUSED, Z ENDED, J CLOCK_JUMP, 9 ROOM_UNKNOWN, u SALE_UNKNOWN,
--       p PURGED
-- FULL  calls nobody, who could not hold

local keys = {
  sale = KEYS[1], skus = KEYS[2], stock = KEYS[3], buyers = KEYS[4], ledger = KEYS[5],
  deadlines = KEYS[6], room = KEYS[7], vacant = KEYS[8],
}
local caller_ms = ARGV[1]
local is_full = false -- true in the twin for a full memory, see flashsale.scripts

-- include lib/load_shard
-- include lib/load_room
-- include lib/new_book
-- include lib/expire_due
-- include lib/close_book
-- include lib/move_on

local SWEEP_PER_CALL = 128

local shard, refusal, time = load_shard(keys.sale, caller_ms)
if not shard then
  return { 0, time, refusal, '', {}, {}, {} }
end
local epoch = tonumber(shard.epoch)
local room, unknown = load_room(keys.room)
if not room then
  return { epoch, shard.now, unknown, '', {}, {}, {} }
end
redis.call('HLEN', keys.skus) -- a wrong type must stop the sweep, which is a step of its own
redis.call('STRLEN', keys.vacant)
local book = new_book()
expire_due(book, shard, keys, SWEEP_PER_CALL)
close_book(book, shard, keys, {})
if is_full then
  room.state = 'paused' -- for this call alone: what is shown is what is stored
end
local closed, units = move_on(shard, room, keys)
return {
  epoch, shard.now, '', closed or '', redis.call('HGETALL', keys.room), units,
  {
    room.outstanding, room.bound, string.format('%.9f', room.converts),
    math.max(room.opens, shard.opens or 0), room.behind and 1 or 0,
  },
}
