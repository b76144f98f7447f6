-- Reads the places of buyers who come hash by hash, each hash in one command: buyer → number, of
-- those who have one.
local function read_places(k_places, grouped, sizes)
  local found, from = {}, 1
  for w = 1, #sizes do
    local numbers = redis.call('HMGET', k_places[w], unpack(grouped, from, from + sizes[w] - 1))
    for k = 1, #numbers do
      if numbers[k] then
        found[grouped[from + k - 1]] = numbers[k]
      end
    end
    from = from + sizes[w]
  end
  return found
end
