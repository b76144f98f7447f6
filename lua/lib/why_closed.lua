-- Why no new hold is taken at all now, and nobody admitted: an outcome code, or nil.
local function why_closed(shard)
  local NOT_OPEN, CLOSED, PAUSED, ENDED, CLOCK_JUMP = 'N', 'K', 'P', 'Z', 'J' -- outcomes
  if shard.state ~= 'running' then
    return shard.state == 'ended' and ENDED or PAUSED
  elseif shard.opens and shard.latest < shard.opens then
    return NOT_OPEN
  elseif shard.closes and shard.now >= shard.closes then
    return CLOSED
  end
  return shard.jumped and CLOCK_JUMP or nil
end
