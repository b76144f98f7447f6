-- Whether a text comes before another of the same length, byte by byte. (`<` would ask the server's
-- locale, and stop at a zero byte.)
local function is_smaller(a, b)
  for from = 1, #a, 8 do
    local x, y = { string.byte(a, from, from + 7) }, { string.byte(b, from, from + 7) }
    for k = 1, #x do
      if x[k] ~= y[k] then
        return x[k] < y[k]
      end
    end
  end
  return false
end
