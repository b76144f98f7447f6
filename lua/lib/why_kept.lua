-- include lib/is_doubtful
-- Why a cue keeps what it has set aside, as an outcome code, or nil: only a void one gives it up,
-- and once the cue's time has come, or somebody had entered before (lib/end_cue froze the entries
-- then), not before the time that its result was announced for. Otherwise a void would turn a draw
-- into a race, and be worth provoking.
local function why_kept(shard, cue, k_cue)
  local NOT_CLOSED, FROZEN, SETTLED, CLOCK_JUMP = 'j', 'f', 'g', 'J' -- outcomes
  if cue.state ~= 'void' then
    return cue.state == 'open' and NOT_CLOSED or cue.state == 'frozen' and FROZEN or SETTLED
  elseif is_doubtful(shard, cue.at) or is_doubtful(shard, cue.reveals) then
    return CLOCK_JUMP
  end
  local frozen_at = tonumber(redis.call('HGET', k_cue, 'frozen_at') or 0)
  return (shard.now >= cue.at or frozen_at > 0) and shard.now < cue.reveals and NOT_CLOSED or nil
end
