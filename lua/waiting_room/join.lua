#!lua
-- Gives buyers a number in the waiting room: a batch. A buyer who has a place keeps it; one who
-- left before it was called has it again, unless it was passed over.
--
-- KEYS  sale room vacant places
-- ARGV  caller_ms   the caller's clock, for the check of the server's
--       buyers      msgpack: array of buyers, hash by hash: those of the first of the hashes given,
--                   those of the next, …; hashes at the end may have only counts of keys
--       order       msgpack: {{how many of them each hash has, …}, {which of the batch each of them
--                   is, from 1, …}}; [] if only tickets are given
--       marks       "" or msgpack, in the order of the batch: {{key or "", …}, {which of the hashes
--                   has its count, …}}
-- CODES 1 JOINED, 0 ROOM_FULL, + KEY_LIMIT, K CLOSED, Z ENDED, J CLOCK_JUMP, 9 ROOM_UNKNOWN,
--       u SALE_UNKNOWN, p PURGED, ! MALFORMED
-- REPLY as every batch's, but the third value is the first new number: those of one reply follow
--       each other. A detail's third value is a number given before; replayed unless the buyer had
--       left it.

local k_sale, k_room, k_vacant = unpack(KEYS)
local k_places = { unpack(KEYS, 4) } -- those that hold these buyers and keys
local caller_ms, buyers_blob, order_blob, marks_blob = unpack(ARGV)

-- include lib/load_shard
-- include lib/load_room
-- include lib/check_batch
-- include lib/are_ids
-- include lib/is_id
-- include lib/fix_present
-- include lib/in_order
-- include lib/read_places

local JOINED, ROOM_FULL, KEY_LIMIT, MALFORMED = '1', '0', '+', '!' -- outcomes
local CLOSED, ENDED, CLOCK_JUMP = 'K', 'Z', 'J' -- outcomes
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
local grouped = cmsgpack.unpack(buyers_blob)
local sizes, spots = unpack(cmsgpack.unpack(order_blob))
local marks = marks_blob ~= '' and (cmsgpack.unpack(marks_blob) or {})
local n = check_batch(grouped, room.one_place and (spots or {}) or nil, marks and marks[1] or nil,
  marks and marks[2] or nil)
local buyers = grouped
if room.one_place then
  buyers = #sizes <= #k_places and in_order(grouped, sizes, spots)
end

-- Whether all are identifiers, or "" where there is none.
local function are_keys(keys)
  for i = 1, #keys do
    if keys[i] ~= '' and not is_id(keys[i]) then
      return false
    end
  end
  return true
end

local closed = shard.jumped and CLOCK_JUMP
if not buyers or not are_ids(buyers) or (marks and not are_keys(marks[1])) then
  closed = MALFORMED
elseif shard.state == 'ended' then
  closed = ENDED
elseif shard.closes and shard.now >= shard.closes then
  closed = CLOSED
end
if closed then
  return { epoch, shard.now, 0, closed, '' }
end
local fixed = fix_present(room, shard.now)
local joined, back = room.joined, {} -- back: numbers that were left and are their buyers' again

local function finish(codes, details)
  if back[1] then
    redis.call('HSET', k_room, 'left', room.left - #back, 'vacant', room.vacant - #back)
    for _, number in ipairs(back) do
      redis.call('SETBIT', k_vacant, number, 0)
    end
  end
  if fixed then
    redis.call('HSET', k_room, 'joined', joined, 'present', room.present)
  else
    redis.call('HSET', k_room, 'joined', joined)
  end
  redis.call('HSET', k_sale, 'now', shard.now)
  return { epoch, shard.now, room.joined + 1, codes, details }
end

if not room.one_place then -- a counter, and nothing else
  local room_for = math.min(n, room.places_max - joined)
  joined = joined + room_for
  return finish(room_for == n and JOINED
    or string.rep(JOINED, room_for) .. string.rep(ROOM_FULL, n - room_for), '')
end

local found = read_places(k_places, grouped, sizes)
-- include lib/place_fresh
local early = joined < 16 * room.hashes -- after that each hash has almost surely had its first
if not marks and not next(found) and joined + n <= room.places_max
  and place_fresh(k_places, grouped, sizes, spots, joined, early) then
  joined = joined + n
  return finish(JOINED, '')
end

-- include lib/load_turns
-- include lib/place_of
-- include lib/spread_reads
-- include lib/turn_of
local of_buyer, from = {}, 1
for w = 1, #sizes do
  for p = from, from + sizes[w] - 1 do
    of_buyer[spots[p]] = w
  end
  from = from + sizes[w]
end
-- Fields of keys begin with a colon, which no buyer has.
local fields, of_field = {}, {}
for i = 1, marks and n or 0 do
  if marks[1][i] ~= '' then
    fields[#fields + 1], of_field[#of_field + 1] = ':' .. marks[1][i], marks[2][i]
  end
end
local counts, sets = spread_reads(k_places, fields, of_field)
if not counts then
  return { epoch, shard.now, 0, MALFORMED, '' }
end

-- A place whose turn has ended, or that was passed over, is a place no longer. To find a place
-- costs more than all else: turns are read first, and until one of them ends no place is over.
local looks = 0
local function is_over(number, was_left)
  if room.serving == 0 then
    return false
  end
  if not room.turns then
    load_turns(k_room, room)
    local first = room.over == 0 and room.turns[1]
    room.none_over = first and shard.now < (first.slot + 1) * room.slot + room.ttl
  end
  if room.none_over and not was_left then
    return false
  end
  looks = looks + (number <= room.present and 1 or 0)
  local place = place_of(room.seed or '', room.present, number)
  return place <= room.serving and (was_left or not turn_of(room, place, shard.now))
end

local codes, details, given, all_new = {}, {}, {}, true
for i = 1, n do
  if looks >= LOOKS_MAX then
    codes[i], all_new = string.rep(UNJUDGED, n - i + 1), false -- as lib/may_judge
    break
  end
  local buyer, key = buyers[i], marks and marks[1][i] ~= '' and ':' .. marks[1][i]
  local before = tonumber(found[buyer])
  local count = key and room.key_max and (tonumber(counts[key]) or 0)
  local number = before and math.abs(before)
  if before and (given[buyer] or not is_over(number, before < 0)) then
    local d = #details
    details[d + 1], details[d + 2], details[d + 3] = i, '', number
    details[d + 4] = before > 0 and 1 or 0
    codes[i], all_new = JOINED, false
    if before < 0 then
      local set = sets[of_buyer[i]]
      set[#set + 1], set[#set + 2], found[buyer] = buyer, number, number
      back[#back + 1] = number
    end
  elseif joined >= room.places_max then
    codes[i], all_new = ROOM_FULL, false
  elseif count and count >= room.key_max then
    codes[i], all_new = KEY_LIMIT, false
  else
    joined = joined + 1
    found[buyer], given[buyer], codes[i] = joined, true, JOINED
    local set = sets[of_buyer[i]]
    set[#set + 1], set[#set + 2] = buyer, joined
    if count then
      counts[key] = count + 1
      set = sets[marks[2][i]]
      set[#set + 1], set[#set + 2] = key, count + 1
    end
  end
end
if back[1] then
  redis.call('STRLEN', k_vacant) -- a wrong type must stop this before anything is written
end
for w, set in pairs(sets) do
  if set[1] then
    redis.call('HSET', k_places[w], unpack(set))
  end
end
return finish(all_new and JOINED or table.concat(codes),
  details[1] and cmsgpack.pack(details) or '')
