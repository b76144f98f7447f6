-- include lib/minus
-- include lib/parse_basket
-- What of a hold is paid and not refunded, as lines.
local function sold_lines(hold)
  if hold.state ~= 'c' and hold.state ~= 'f' then
    return {}
  end
  local lines = parse_basket(hold.kept or hold.basket)
  local refunds = hold.refunds or {}
  for k = 2, #refunds, 2 do
    lines = minus(lines, parse_basket(refunds[k]))
  end
  return lines
end
