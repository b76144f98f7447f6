-- include lib/counter_of
-- include lib/damaged
-- A sale's units over all its skus: available, set aside, held, sold.
local function units_left(k_skus, k_stock)
  local sums, letters = { a = 0, x = 0, h = 0, s = 0 }, { 'a', 'x', 'h', 's' }
  local fields = {}
  for index = 0, redis.call('HLEN', k_skus) - 1 do
    for _, letter in ipairs(letters) do
      fields[#fields + 1] = index .. letter
    end
  end
  if not fields[1] then
    damaged('the key skus')
  end
  for k, units in ipairs(redis.call('HMGET', k_stock, unpack(fields))) do
    local letter = letters[(k - 1) % 4 + 1]
    sums[letter] = sums[letter] + counter_of(units, fields[k])
  end
  return sums.a, sums.x, sums.h, sums.s
end
