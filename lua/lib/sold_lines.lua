-- include lib/parse_basket
-- What of a hold is paid and not refunded, as lines.
local function sold_lines(hold)
  if hold.state ~= 'c' and hold.state ~= 'f' then
    return {}
  end
  local lines, refunds = parse_basket(hold.kept or hold.basket), hold.refunds
  if not refunds then
    return lines
  end
  local left, rest = {}, {}
  for k = 1, #lines, 2 do
    left[lines[k]] = lines[k + 1]
  end
  for r = 2, #refunds, 2 do
    local taken = parse_basket(refunds[r])
    for k = 1, #taken, 2 do
      left[taken[k]] = left[taken[k]] - taken[k + 1]
    end
  end
  for k = 1, #lines, 2 do
    if left[lines[k]] > 0 then
      rest[#rest + 1], rest[#rest + 2] = lines[k], left[lines[k]]
    end
  end
  return rest
end
