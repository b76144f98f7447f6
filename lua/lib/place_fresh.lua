-- Gives a batch of buyers without places the numbers after `joined`, each hash in one command; or
-- false, and nothing is written, if a buyer is among them twice.
local function place_fresh(k_places, grouped, sizes, spots, joined, early)
  local seen, sets = {}, {}
  for p = 1, #grouped do
    local buyer = grouped[p]
    if seen[buyer] then
      return false
    end
    seen[buyer] = true
    sets[2 * p - 1], sets[2 * p] = buyer, joined + spots[p]
  end
  local from = 1
  for w = 1, #sizes do
    if early then
      -- A value too long for a listpack makes the server keep this hash as a table from the start.
      redis.call('HSET', k_places[w], grouped[from], string.rep(' ', 65))
    end
    local past = from + sizes[w]
    redis.call('HSET', k_places[w], unpack(sets, 2 * from - 1, 2 * past - 2))
    from = past
  end
  return true
end
