-- include lib/is_doubtful
-- Why a cue keeps what it has set aside, as an outcome code, or nil: only a void one gives it up,
-- and once the cue's time has come not before the time that its result was announced for. Otherwise
-- a void would turn a draw into a race, and be worth provoking.
local function why_kept(shard, cue)
  local NOT_CLOSED, FROZEN, SETTLED, CLOCK_JUMP = 'j', 'f', 'g', 'J' -- outcomes
  if cue.state ~= 'void' then
    return cue.state == 'open' and NOT_CLOSED or cue.state == 'frozen' and FROZEN or SETTLED
  elseif is_doubtful(shard, cue.at) or is_doubtful(shard, cue.reveals) then
    return CLOCK_JUMP
  end
  return shard.now >= cue.at and shard.now < cue.reveals and NOT_CLOSED or nil
end
