-- As lib/parse_turn reads it.
local function format_turn(turn)
  return string.format('%.0f:%.0f:%.0f:%s', turn.number, turn.ends, turn.slot, turn.used)
end
