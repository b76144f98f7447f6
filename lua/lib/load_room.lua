-- The waiting room's rules and counters, or nil and an outcome code if the sale has none. `present`
-- is nil until its numbers are fixed, `seed` until it is revealed.
local function load_room(k_room)
  local ROOM_UNKNOWN = '9' -- outcomes
  local room = redis.call('HMGET', k_room, 'format', 'state', 'rules', 'rate', 'joined', 'present',
    'seed', 'serving', 'over', 'vacant', 'left')
  if not room[1] then
    return nil, ROOM_UNKNOWN
  end
  if room[1] ~= '1' then
    error({ err = 'FLASHSALE_FORMAT the room is in format ' .. room[1] .. ', this script reads 1' })
  end
  local rules = cmsgpack.unpack(room[3])
  return {
    state = room[2], -- running, paused
    rate = tonumber(room[4]), -- places a second
    joined = tonumber(room[5]), -- the last number given
    present = tonumber(room[6]), -- how many numbers were given before the opening
    seed = room[7] ~= '' and room[7] or nil, -- orders their places
    serving = tonumber(room[8]), -- the highest place called
    over = tonumber(room[9]), -- the highest place whose turn is known to have ended
    vacant = tonumber(room[10]), -- places that were left and are not called yet
    left = tonumber(room[11]), -- places given up, in all
    opens = rules[1], -- ms; 0: at once
    ttl = rules[2], -- how long a turn lasts, ms
    slot = rules[3], -- turns that begin in the same `slot` ms end together
    conversion = rules[4], -- units a turn takes, as it is assumed before any has ended
    margin = rules[5],
    places_max = rules[6],
    one_place = rules[7], -- a buyer has one place, or false: only tickets are given
    key_max = rules[8], -- places of one key, or false
    hashes = rules[9], -- over how many hashes the buyers are spread
  }
end
