-- include lib/format_basket
-- include lib/is_id
-- include lib/is_quantity
-- Reads a request's baskets: nil or {{{sku, qty, …}, …}, {which, …} or nothing}.
-- Gives a list of {text, lines, refusal} (`refusal`: the outcome code of a basket that breaks the
-- format or names an unknown sku), and the list that says which basket, from 1, each operation
-- has (nil: all have the first).
local function resolve_baskets(k_skus, request)
  local MALFORMED, SKU_UNKNOWN, LINES_MAX, SKUS_MAX = '!', 'U', 32, 1000 -- outcomes
  if not request then
    return {}, nil
  end
  local baskets, names = {}, {}
  for b, named in ipairs(request[1]) do
    local size, first, seen = #named, #names, {}
    local fits = size > 0 and size % 2 == 0 and size <= 2 * LINES_MAX
    for k = 1, fits and size or 0, 2 do
      local name = named[k]
      fits = is_id(name) and is_quantity(named[k + 1]) and not seen[name]
      if not fits then
        break
      end
      seen[name] = true
      names[#names + 1] = name
    end
    baskets[b] = { lines = {}, first = first, refusal = not fits and MALFORMED or nil }
  end

  local indexes = {}
  for from = 1, #names, SKUS_MAX do
    local to = math.min(from + SKUS_MAX - 1, #names)
    for k, index in ipairs(redis.call('HMGET', k_skus, unpack(names, from, to))) do
      indexes[from + k - 1] = tonumber(index or nil)
    end
  end
  for b, basket in ipairs(baskets) do
    local named, order, quantity = request[1][b], {}, {}
    for k = 1, basket.refusal and 0 or #named, 2 do
      local index = indexes[basket.first + (k + 1) / 2]
      if not index then
        basket.refusal = SKU_UNKNOWN
        break
      end
      order[#order + 1] = index
      quantity[index] = named[k + 1]
    end
    if not basket.refusal then
      if #order > 1 then
        table.sort(order)
      end
      for k, index in ipairs(order) do
        basket.lines[2 * k - 1], basket.lines[2 * k] = index, quantity[index]
      end
      basket.text = format_basket(basket.lines)
    end
  end
  return baskets, request[2]
end
