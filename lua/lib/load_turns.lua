-- The turns that have not ended, by the slot of time in which they began: a list of {slot, s the
-- highest place called by its end, a arrived, d done with it (they held, or left), u units taken, p
-- passed over: left before}, ascending; into `room`, with what the ended turns came to.
local function load_turns(k_room, room)
  local rows, turns = {}, {}
  local flat = redis.call('HGETALL', k_room)
  for k = 1, #flat, 2 do
    local slot, letter = string.match(flat[k], '^(%d+)([sadup])$')
    if slot then
      if not rows[slot] then
        rows[slot] = { slot = tonumber(slot), s = 0, a = 0, d = 0, u = 0, p = 0 }
        turns[#turns + 1] = rows[slot]
      end
      rows[slot][letter] = tonumber(flat[k + 1])
    elseif flat[k] == 'units' or flat[k] == 'arrived' or flat[k] == 'passed'
      or flat[k] == 'tokens' or flat[k] == 'tokens_at' then
      room[flat[k]] = tonumber(flat[k + 1])
    end
  end
  table.sort(turns, function(one, other)
    return one.slot < other.slot
  end)
  room.turns = turns
end
