-- include lib/is_quantity
-- The texts of a batch's baskets {sku, qty, least, …} for entries of a cue: lines `index*qty~least`
-- in ascending order of index, `*qty` left out for 1, `~least` if it is the qty; "" for one unit of
-- the cue's first sku. A list of {text, refusal}; more than a limit or than the cue has of a sku
-- can never be had. Only so many lines are read (lib/resolve_baskets): fewer texts than baskets
-- then.
local function entry_texts(cue, baskets)
  local MALFORMED, SKU_UNKNOWN, LIMIT_REACHED, SOLD_OUT = '!', 'U', 'L', 'S' -- outcomes
  local at = {}
  for k = 1, #cue.lines, 4 do
    at[cue.lines[k]] = k
  end
  local function judge(basket)
    local order, text, total = {}, {}, 0
    if #basket == 0 or #basket % 3 ~= 0 or #basket > 96 then
      return nil, MALFORMED
    end
    for k = 1, #basket, 3 do
      local sku, qty, least = basket[k], basket[k + 1], basket[k + 2]
      if type(sku) ~= 'string' or not is_quantity(qty) or not is_quantity(least) or least > qty
        or text[sku] then
        return nil, MALFORMED
      end
      local line = at[sku]
      if not line then
        return nil, SKU_UNKNOWN
      elseif cue.lines[line + 3] and qty > cue.lines[line + 3] then
        return nil, LIMIT_REACHED
      elseif least > cue.lines[line + 2] then
        return nil, SOLD_OUT
      end
      total, text[sku] = total + qty, true
      local index = cue.lines[line + 1]
      order[#order + 1] = index
      text[index] = index .. (qty > 1 and '*' .. qty or '') .. (least < qty and '~' .. least or '')
    end
    if cue.limit and total > cue.limit then
      return nil, LIMIT_REACHED
    end
    table.sort(order)
    for k, index in ipairs(order) do
      order[k] = text[index]
    end
    local joined = table.concat(order, ',')
    return joined == cue.lines[2] .. '' and '' or joined
  end
  local CALL_LINES_MAX = 768
  local judged, values = {}, 0
  for b, basket in ipairs(baskets) do
    if values >= 3 * CALL_LINES_MAX then
      break
    end
    values = values + #basket
    local text, refusal = judge(basket)
    judged[b] = { text = text, refusal = refusal }
  end
  return judged
end
