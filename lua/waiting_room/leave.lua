#!lua
-- Gives places up: a batch. A turn that was running goes to somebody else at once. A place that is
-- not called yet is marked as vacant, to be passed over, and until then stays its buyer's, with its
-- number below 0: whoever joins and leaves again and again would otherwise use the room's numbers
-- up, and fill the queue with places of nobody.
--
-- KEYS  sale room admitted vacant places
-- ARGV  caller_ms   the caller's clock, for the check of the server's
--       buyers      msgpack: array of buyers
--       where       msgpack: for each of them, in which of the hashes of places given (from 1) its
--                   place is
--       numbers     msgpack: the number each of them gives up, 0: whichever they have
-- CODES 8 LEFT, 9 ROOM_UNKNOWN, u SALE_UNKNOWN, p PURGED, ! MALFORMED
-- REPLY as every batch's; LEFT is replayed if there was no such place, or it was left before.

local k_sale, k_room, k_admitted, k_vacant = unpack(KEYS)
local k_places = { unpack(KEYS, 5) } -- those that hold these buyers
local caller_ms, buyers_blob, where_blob, numbers_blob = unpack(ARGV)

-- include lib/load_shard
-- include lib/load_room
-- include lib/load_turns
-- include lib/check_batch
-- include lib/are_ids
-- include lib/place_of
-- include lib/turn_of
-- include lib/parse_turn
-- include lib/spread_reads

local LEFT, MALFORMED = '8', '!' -- outcomes
local UNJUDGED, LOOKS_MAX = '.', 128

local shard, refusal, time = load_shard(k_sale, caller_ms)
if not shard then
  return { 0, time, 0, refusal, '' }
end
local epoch = tonumber(shard.epoch)
local room, unknown = load_room(k_room)
if not room then
  return { epoch, shard.now, 0, unknown, '' }
end
local buyers, where = cmsgpack.unpack(buyers_blob), cmsgpack.unpack(where_blob)
local numbers = cmsgpack.unpack(numbers_blob)
local n = check_batch(buyers, where, numbers)
local found, gone = nil, nil
if room.one_place and are_ids(buyers) then
  found, gone = spread_reads(k_places, buyers, where)
end
if not found then
  return { epoch, shard.now, 0, MALFORMED, '' }
end
local admitted = redis.call('HMGET', k_admitted, unpack(buyers))
load_turns(k_room, room)

-- The place of a number if it was called, be its turn over or not.
local looks = 0
local function called_place(number)
  local drawn = room.present and (room.present == 0 or room.seed)
  looks = looks + (drawn and number <= room.present and 1 or 0)
  local place = drawn and place_of(room.seed, room.present, number)
  return place and place <= room.serving and place or nil
end

-- The row of the turn that a called place gives back, if it has one that nobody is done with.
local function running_turn(i, number, place)
  local turn = parse_turn(admitted[i])
  if turn and turn.number == number and turn.used == '1' then
    return nil
  end
  return turn_of(room, place, shard.now)
end

local left, details, ended, marked, vacated = room.left, {}, {}, {}, {}
local codes = LEFT
for i = 1, n do
  if looks >= LOOKS_MAX then
    codes = string.rep(LEFT, i - 1) .. string.rep(UNJUDGED, n - i + 1) -- as lib/may_judge
    break
  end
  local buyer = buyers[i]
  local number = tonumber(found[buyer])
  if number and number > 0 and (numbers[i] == 0 or numbers[i] == number) then
    local place = called_place(number)
    local row = place and running_turn(i, number, place)
    if row then
      row.d, row.changed = row.d + 1, true
    end
    if admitted[i] then
      ended[#ended + 1] = buyer
    end
    if place then
      local list = gone[where[i]]
      list[#list + 1], found[buyer] = buyer, nil
    else
      local set = marked[where[i]] or {}
      set[#set + 1], set[#set + 2], marked[where[i]] = buyer, -number, set
      found[buyer], vacated[#vacated + 1] = -number, number
    end
    left = left + 1
  else
    local d = #details
    details[d + 1], details[d + 2], details[d + 3], details[d + 4] = i, '', 0, 1
  end
end
if left > room.left then
  redis.call('STRLEN', k_vacant) -- a wrong type must stop this before anything is written
  redis.call('HSET', k_room, 'left', left, 'vacant', room.vacant + #vacated)
  for _, number in ipairs(vacated) do
    redis.call('SETBIT', k_vacant, number, 1)
  end
  redis.call('HSET', k_sale, 'now', shard.now)
  for w, list in pairs(gone) do
    if list[1] then
      redis.call('HDEL', k_places[w], unpack(list))
    end
  end
  for w, set in pairs(marked) do
    redis.call('HSET', k_places[w], unpack(set))
  end
  if ended[1] then
    redis.call('HDEL', k_admitted, unpack(ended))
  end
  for _, row in ipairs(room.turns) do
    if row.changed then
      redis.call('HSET', k_room, row.slot .. 'd', row.d)
    end
  end
end
return { epoch, shard.now, 0, codes, details[1] and cmsgpack.pack(details) or '' }
