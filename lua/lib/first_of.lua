-- include lib/is_smaller
-- Which of two entries of a buyer counts, whatever came first: the earlier window, then the
-- shorter basket's text, then the smaller one, then the smaller key. An entry is its window, "|"
-- and its basket if it has another than the common one, "#" and its key if keys are counted.
local function first_of(a, b)
  if a == b then
    return a
  end
  local window_a, basket_a, key_a = string.match(a, '^(%d+)([^#]*)(.*)$')
  local window_b, basket_b, key_b = string.match(b, '^(%d+)([^#]*)(.*)$')
  if window_a ~= window_b then
    return tonumber(window_a) < tonumber(window_b) and a or b
  elseif #basket_a ~= #basket_b then
    return #basket_a < #basket_b and a or b
  elseif basket_a ~= basket_b then
    return is_smaller(basket_b, basket_a) and b or a
  end
  return is_smaller(key_b, key_a) and b or a
end
