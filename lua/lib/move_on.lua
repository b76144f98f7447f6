-- include lib/units_left
-- include lib/load_turns
-- include lib/fix_present
-- include lib/number_of
-- include lib/advance_room
-- include lib/why_closed
-- Moves the room on, and writes that. Nothing is written before everything that is written to has
-- been read. Returns why nobody may hold now, if so, and the sale's units.
local function move_on(shard, room, keys)
  local fixed = fix_present(room, shard.now)
  local available, aside, held, sold = units_left(keys.skus, keys.stock)
  load_turns(keys.room, room)
  local closed = why_closed(shard)
  local function is_vacant(place)
    return redis.call('GETBIT', keys.vacant, number_of(room.seed, room.present, place)) == 1
  end
  local sets, gone = advance_room(room, shard.now, available, closed, shard.admission, is_vacant)
  if fixed then
    sets[#sets + 1], sets[#sets + 2] = 'present', room.present
  end
  if sets[1] then
    redis.call('HSET', keys.room, unpack(sets))
    redis.call('HSET', keys.sale, 'now', shard.now)
  end
  if gone[1] then
    redis.call('HDEL', keys.room, unpack(gone))
  end
  return closed, { available, aside, held, sold }
end
