-- include lib/damaged
-- include lib/format_basket
-- include lib/is_id
-- include lib/is_quantity
-- Reads a request's baskets: nil or {{{sku, qty, …}, …}, {which, …} or nothing}.
-- Gives a list of {text, lines, refusal, names} (`refusal`: the outcome code of a basket that
-- breaks the format or names an unknown sku; `names`: the skus of several lines by their indexes,
-- the first unknown one by "U"), and the list that says which basket, from 1, each operation
-- has (nil: all have the first). Only so many lines are read: if there are more, it also says up to
-- which operation the baskets are there. (They are numbered in the order of the operations.)
local function resolve_baskets(k_skus, request)
  local MALFORMED, SKU_UNKNOWN, LINES_MAX, SKUS_MAX = '!', 'U', 32, 1000 -- outcomes
  local CALL_LINES_MAX = 768
  local cut = false
  if not request then
    return {}, nil
  end
  local baskets, names = {}, {}
  for b, named in ipairs(request[1]) do
    cut = #names >= CALL_LINES_MAX
    if cut then
      break
    end
    local size, first, seen = #named, #names, nil
    local fits = size > 0 and size % 2 == 0 and size <= 2 * LINES_MAX
    for k = 1, fits and size or 0, 2 do
      local name = named[k]
      fits = is_id(name) and is_quantity(named[k + 1]) and not (seen and seen[name])
      if not fits then
        break
      end
      if size > 2 then
        seen = seen or {}
        seen[name] = true
      end
      names[#names + 1] = name
    end
    baskets[b] = { lines = {}, first = first, refusal = not fits and MALFORMED or nil }
  end

  local indexes, lost = {}, false
  for from = 1, #names, SKUS_MAX do
    local to = math.min(from + SKUS_MAX - 1, #names)
    for k, index in ipairs(redis.call('HMGET', k_skus, unpack(names, from, to))) do
      indexes[from + k - 1], lost = index, lost or not index
    end
  end
  if lost and redis.call('HLEN', k_skus) == 0 then -- every sale has skus
    damaged('the key skus')
  end

  -- Puts many lines into the order of their indexes; nil if a sku is unknown.
  local function line_up(named, first)
    local lines, order, quantity, of = {}, {}, {}, {}
    for k = 1, #named, 2 do
      local index = indexes[first + (k + 1) / 2]
      if not index then
        return nil, nil, { U = named[k] }
      end
      of[tonumber(index)] = named[k]
      order[#order + 1] = tonumber(index)
      quantity[tonumber(index)] = named[k + 1]
    end
    table.sort(order)
    for k, index in ipairs(order) do
      lines[2 * k - 1], lines[2 * k] = index, quantity[index]
    end
    return lines, format_basket(lines), of
  end

  for b, basket in ipairs(baskets) do
    local named, index, lines = request[1][b], indexes[basket.first + 1], nil
    if not basket.refusal and #named > 2 then
      lines, basket.text, basket.names = line_up(named, basket.first)
    elseif not basket.refusal and index then
      local qty = named[2]
      lines = { tonumber(index), qty }
      basket.text = qty ~= 1 and index .. '*' .. qty or index ~= '0' and index or ''
    end
    if not basket.refusal then
      basket.lines, basket.refusal = lines or basket.lines, not lines and SKU_UNKNOWN or nil
    end
  end
  for i = 1, cut and request[2] and #request[2] or 0 do
    local number = request[2][i]
    if not baskets[number] and request[1][number] then
      return baskets, request[2], math.max(1, i - 1)
    end
  end
  return baskets, request[2]
end
