-- include lib/format_basket
-- include lib/is_id
-- include lib/is_quantity
-- include lib/parse_basket
-- Reads a request's baskets: "" or msgpack {{{sku, qty, …}, …}, {which, …} or nothing}.
-- Gives a list of {text, lines, units, refusal} (`refusal`: the outcome code of a basket that
-- breaks the format or names an unknown sku), and the list that says which basket, from 1,
-- each operation has (nil: all have the first).
local function resolve_baskets(k_skus, blob)
  local MALFORMED, SKU_UNKNOWN, LINES_MAX = '!', 'U', 32 -- outcomes
  if blob == '' then
    return {}, nil
  end
  local request = cmsgpack.unpack(blob)
  local baskets = {}
  for b, named in ipairs(request[1]) do
    local basket = { units = 0, lines = {} }
    local names, seen = {}, {}
    local malformed = #named == 0 or #named % 2 == 1 or #named > 2 * LINES_MAX
    for k = 1, #named, 2 do
      local name, qty = named[k], named[k + 1]
      malformed = malformed or not is_id(name) or not is_quantity(qty) or seen[name]
      if malformed then
        break
      end
      seen[name] = qty
      names[#names + 1] = name
      basket.units = basket.units + qty
    end
    if malformed then
      basket.refusal = MALFORMED
    else
      local indexes = redis.call('HMGET', k_skus, unpack(names))
      local order, quantities = {}, {}
      for k, index in ipairs(indexes) do
        if index then
          order[k] = tonumber(index)
          quantities[order[k]] = seen[names[k]]
        else
          basket.refusal = SKU_UNKNOWN
          break
        end
      end
      if not basket.refusal then
        table.sort(order)
        for _, index in ipairs(order) do
          basket.lines[#basket.lines + 1] = index
          basket.lines[#basket.lines + 1] = quantities[index]
        end
        basket.text = format_basket(basket.lines)
        basket_lines[basket.text] = basket.lines
      end
    end
    baskets[b] = basket
  end
  return baskets, request[2]
end
