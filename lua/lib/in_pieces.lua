-- Calls a command on a key with any number of values, 4,000 at a time: Lua's unpack fails at 8,000.
-- That is an even number, so that a field and its value stay together.
local function in_pieces(command, key, values)
  for from = 1, #values, 4000 do
    redis.call(command, key, unpack(values, from, math.min(from + 3999, #values)))
  end
end
