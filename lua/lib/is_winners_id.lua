-- Whether a hold id is one of those that cues' winners get: callers may not take it, so that nobody
-- stands in the way of an award.
local function is_winners_id(id)
  return string.sub(id, 1, 4) == 'cue~'
end
