-- include lib/damaged
-- include lib/parse_basket
-- include lib/parse_record
-- include lib/sold_lines
-- A buyer's holds for readers: {{id, state, deadline, original deadline, lines, sold, refunds}, …}
-- with lines as {sku, qty, …} and refunds as {op_id, lines, …}. `names` caches sku ids.
local function show_record(record, now, k_stock, names)
  local function named(lines)
    local shown = {}
    for k = 1, #lines, 2 do
      local field = lines[k] .. 'n'
      names[lines[k]] = names[lines[k]] or redis.call('HGET', k_stock, field)
        or damaged('the field ' .. field .. ' of the key stock')
      shown[k], shown[k + 1] = names[lines[k]], lines[k + 1]
    end
    return shown
  end
  local shown = {}
  for i, hold in ipairs(parse_record(record)) do
    local state, buried = hold.state, hold.state == 't'
    if state == 'h' and tonumber(hold.stamp) <= now then
      state = 'e'
    end
    local refunds = {}
    for k = 1, #(hold.refunds or {}), 2 do
      refunds[k], refunds[k + 1] = hold.refunds[k], named(parse_basket(hold.refunds[k + 1]))
    end
    shown[i] = {
      hold.id,
      buried and 'r' or state,
      tonumber(hold.stamp),
      tonumber(hold.moved or hold.stamp),
      buried and {} or named(parse_basket(hold.basket)),
      named(sold_lines(hold)),
      refunds,
    }
  end
  return shown
end
