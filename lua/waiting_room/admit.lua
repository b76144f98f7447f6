#!lua
-- Lets called buyers in, for the rest of their turns: a batch. It moves the room on first.
--
-- KEYS  sale skus stock buyers ledger deadlines room admitted vacant places
-- ARGV  caller_ms   the caller's clock, for the check of the server's
--       buyers      msgpack: array of buyers
--       where       msgpack: for each of them, in which of the hashes of places given (from 1) its
--                   place is; [] if only tickets are given
--       tickets     msgpack: {{number, …}, {issued, …}, {expires, …}}, 0 each without a ticket
-- CODES 4 ADMITTED, 2 WAITING, 5 TURN_OVER, 7 NOT_JOINED, - WRONG_TICKET, < TICKET_EXPIRED,
--       N NOT_OPEN, K CLOSED, P PAUSED, Z ENDED, J CLOCK_JUMP, 9 ROOM_UNKNOWN, u SALE_UNKNOWN,
--       p PURGED, ! MALFORMED
-- REPLY as every batch's; the deadline of ADMITTED is when the turn ends.

local keys = {
  sale = KEYS[1], skus = KEYS[2], stock = KEYS[3], buyers = KEYS[4], ledger = KEYS[5],
  deadlines = KEYS[6], room = KEYS[7], admitted = KEYS[8], vacant = KEYS[9],
}
local k_places = { unpack(KEYS, 10) } -- those that hold these buyers
local caller_ms, buyers_blob, where_blob, tickets_blob = unpack(ARGV)

-- include lib/load_shard
-- include lib/load_room
-- include lib/check_batch
-- include lib/are_ids
-- include lib/new_book
-- include lib/expire_due
-- include lib/close_book
-- include lib/move_on
-- include lib/place_of
-- include lib/turn_of
-- include lib/parse_turn
-- include lib/format_turn
-- include lib/spread_reads

local ADMITTED, WAITING, TURN_OVER, NOT_JOINED = '4', '2', '5', '7' -- outcomes
local WRONG_TICKET, TICKET_EXPIRED, MALFORMED = '-', '<', '!' -- outcomes
local UNJUDGED, SWEEP_PER_CALL, LOOKS_MAX = '.', 128, 128

local shard, refusal, time = load_shard(keys.sale, caller_ms)
if not shard then
  return { 0, time, 0, refusal, '' }
end
local epoch = tonumber(shard.epoch)
local room, unknown = load_room(keys.room)
if not room then
  return { epoch, shard.now, 0, unknown, '' }
end
local buyers, where = cmsgpack.unpack(buyers_blob), cmsgpack.unpack(where_blob)
local numbers, issued, expires = unpack(cmsgpack.unpack(tickets_blob))

-- Whether all are whole numbers from 0. (NaN is not.)
local function are_counts(list)
  for i = 1, #list do
    if type(list[i]) ~= 'number' or not (list[i] >= 0 and list[i] % 1 == 0) then
      return false
    end
  end
  return true
end

local n = check_batch(buyers, room.one_place and where or nil, numbers, issued)
check_batch(buyers, expires)
if not (are_ids(buyers) and are_counts(numbers) and are_counts(issued) and are_counts(expires)) then
  return { epoch, shard.now, 0, MALFORMED, '' }
end
local found = {}
if room.one_place then
  found = spread_reads(k_places, buyers, where)
  if not found then
    return { epoch, shard.now, 0, MALFORMED, '' }
  end
end
-- Where only tickets are given a turn is its number's: a buyer with two of them, shown in turn,
-- would otherwise arrive anew each time. No buyer begins with a colon.
local names = buyers
if not room.one_place then
  names = {}
  for i = 1, n do
    names[i] = string.format(':%.0f', numbers[i])
  end
end
local admitted = redis.call('HMGET', keys.admitted, unpack(names))
redis.call('HLEN', keys.skus) -- a wrong type must stop the sweep, which is a step of its own
redis.call('STRLEN', keys.vacant)
local book = new_book()
expire_due(book, shard, keys, SWEEP_PER_CALL)
close_book(book, shard, keys, {})
local closed = move_on(shard, room, keys)
if closed then
  return { epoch, shard.now, 0, closed, '' }
end

local given, looks = {}, 0 -- in this batch: the same buyer or number may come again

-- What a buyer is answered, and the turn that is theirs if they are admitted.
local function judge(i)
  local number = numbers[i]
  if number > 0 and shard.now >= expires[i] then
    return TICKET_EXPIRED
  elseif number > 0 and shard.now < issued[i] then
    return WRONG_TICKET -- nobody has been given it yet
  end
  if room.one_place then
    local own = tonumber(found[buyers[i]])
    if not own or own < 0 then -- below 0: a place that its buyer has left
      return NOT_JOINED
    elseif number > 0 and number ~= own then
      return WRONG_TICKET -- a place that its buyer no longer has
    end
    number = own
  elseif number < 1 or number > room.joined then
    return WRONG_TICKET
  end
  local before = parse_turn(given[names[i]] or admitted[i])
  if before and before.number == number then
    if shard.now < before.ends then
      return ADMITTED, before, true
    end
    return TURN_OVER
  end
  if not room.present or (room.present > 0 and not room.seed) then
    return WAITING
  end
  looks = looks + (number <= room.present and 1 or 0)
  local place = place_of(room.seed, room.present, number)
  if place > room.serving then
    return WAITING
  end
  local row, ends = turn_of(room, place, shard.now)
  if not row then
    return TURN_OVER
  end
  row.a, row.changed = row.a + 1, true
  return ADMITTED, { number = number, ends = ends, slot = row.slot, used = '0' }
end

local codes, details, sets = {}, {}, {}
for i = 1, n do
  if looks >= LOOKS_MAX then
    codes[i] = string.rep(UNJUDGED, n - i + 1) -- as lib/may_judge: to find places takes its time
    break
  end
  local code, turn, replayed = judge(i)
  codes[i] = code
  if turn then
    local d = #details
    details[d + 1], details[d + 2], details[d + 3], details[d + 4] =
      i, '', turn.ends, replayed and 1 or 0
    if not replayed then
      given[names[i]] = format_turn(turn)
      sets[#sets + 1], sets[#sets + 2] = names[i], given[names[i]]
    end
  end
end
if sets[1] then
  redis.call('HSET', keys.admitted, unpack(sets))
  redis.call('HSET', keys.sale, 'now', shard.now)
  for _, row in ipairs(room.turns) do
    if row.changed then
      redis.call('HSET', keys.room, row.slot .. 'a', row.a)
    end
  end
end
return {
  epoch, shard.now, 0, table.concat(codes), details[1] and cmsgpack.pack(details) or '',
}
