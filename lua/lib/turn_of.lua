-- The turn of a place that was called: the row of its slot and when it ends; nil if it has ended.
-- All turns of a slot end together, a turn's full time after the slot.
local function turn_of(room, place, now)
  for _, row in ipairs(room.turns) do
    if place > room.over and place <= row.s then
      local ends = (row.slot + 1) * room.slot + room.ttl
      if now < ends then
        return row, ends
      end
      return nil
    end
  end
end
