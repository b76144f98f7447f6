-- include lib/write_table
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
    local past = from + sizes[w]
    write_table(k_places[w], early, unpack(sets, 2 * from - 1, 2 * past - 2))
    from = past
  end
  return true
end
