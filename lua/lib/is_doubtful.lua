-- Whether the clocks disagree about a time: it has not come by the shard's, and has by the
-- server's, which is not believed. Whoever's call depends on it has to ask again.
local function is_doubtful(shard, time)
  return shard.now < time and time <= shard.latest
end
