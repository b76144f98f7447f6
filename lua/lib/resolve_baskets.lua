-- include lib/format_basket
-- include lib/is_id
-- include lib/is_quantity
-- include lib/parse_basket
-- Reads a request's baskets: "" or msgpack {{{sku, qty, …}, …}, {which, …} or nothing}.
-- Gives a list of {text, lines, refusal} (`refusal`: the outcome code of a basket that breaks the
-- format or names an unknown sku), and the list that says which basket, from 1, each operation
-- has (nil: all have the first).
local function resolve_baskets(k_skus, blob)
  local MALFORMED, SKU_UNKNOWN, LINES_MAX, SKUS_MAX = '!', 'U', 32, 1000 -- outcomes
  if blob == '' then
    return {}, nil
  end
  local request = cmsgpack.unpack(blob)
  local baskets, names, is_asked = {}, {}, {}
  for b, named in ipairs(request[1]) do
    local seen, fits = {}, #named > 0 and #named % 2 == 0 and #named <= 2 * LINES_MAX
    for k = 1, fits and #named or 0, 2 do
      local name = named[k]
      fits = fits and is_id(name) and is_quantity(named[k + 1]) and not seen[name]
      if not fits then
        break
      end
      seen[name] = true
      if not is_asked[name] then
        is_asked[name] = true
        names[#names + 1] = name
      end
    end
    baskets[b] = { lines = {}, refusal = not fits and MALFORMED or nil }
  end

  local index_of = {}
  for from = 1, #names, SKUS_MAX do
    local to = math.min(from + SKUS_MAX - 1, #names)
    for k, index in ipairs(redis.call('HMGET', k_skus, unpack(names, from, to))) do
      index_of[names[from + k - 1]] = tonumber(index or nil)
    end
  end
  for b, basket in ipairs(baskets) do
    local named, order, quantity = request[1][b], {}, {}
    for k = 1, basket.refusal and 0 or #named, 2 do
      local index = index_of[named[k]]
      if not index then
        basket.refusal = SKU_UNKNOWN
        break
      end
      order[#order + 1] = index
      quantity[index] = named[k + 1]
    end
    if not basket.refusal then
      table.sort(order)
      for k, index in ipairs(order) do
        basket.lines[2 * k - 1], basket.lines[2 * k] = index, quantity[index]
      end
      basket.text = format_basket(basket.lines)
      basket_lines[basket.text] = basket.lines
    end
  end
  return baskets, request[2]
end
