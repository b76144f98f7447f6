-- At the opening the numbers given so far are fixed: their order is drawn, later ones go behind
-- them. True if that is so now and was not before.
local function fix_present(room, now)
  if room.present or now < room.opens then
    return false
  end
  room.present = room.joined
  return true
end
