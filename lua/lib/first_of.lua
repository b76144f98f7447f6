-- include lib/is_smaller
-- Which of two entries of a buyer counts, whatever came first: the earlier window, then the
-- shorter basket's text, then the smaller one. An entry is "window" or "window|basket".
local function first_of(a, b)
  local window_a, window_b = tonumber(string.match(a, '^%d+')), tonumber(string.match(b, '^%d+'))
  if window_a ~= window_b then
    return window_a < window_b and a or b
  end
  if #a ~= #b then
    return #a < #b and a or b
  end
  return is_smaller(b, a) and b or a
end
