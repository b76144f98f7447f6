-- The holds of a buyer's record as a list of {state, deadline, id, basket, moved, kept, refunds}:
-- `basket` and `kept` are texts, `deadline` and `moved` (the original deadline) numbers,
-- `refunds` a list {op_id, basket, …}. The grammar is in lua/README.md.
local function parse_record(record)
  local holds = {}
  if not record then
    return holds
  end
  if string.sub(record, 1, 1) ~= '1' then
    error({ err = 'FLASHSALE_FORMAT a buyer\'s record is in a format this script does not read' })
  end
  for text in string.gmatch(string.sub(record, 2), '[^;]+') do
    local id, rest = string.match(text, '^([^|]*)|?(.*)$', 15)
    local basket, extras = string.match(rest, '^([^|]*)(.*)$')
    local hold = {
      state = string.sub(text, 1, 1),
      deadline = tonumber(string.sub(text, 2, 14)),
      id = id,
      basket = basket,
    }
    for kind, value in string.gmatch(extras, '|(%a)([^|]*)') do
      if kind == 'o' then
        hold.moved = tonumber(value)
      elseif kind == 'k' then
        hold.kept = value
      elseif kind == 'f' then
        local op_id, lines = string.match(value, '^([^:]*):(.*)$')
        hold.refunds = hold.refunds or {}
        table.insert(hold.refunds, op_id)
        table.insert(hold.refunds, lines)
      end
    end
    holds[#holds + 1] = hold
  end
  return holds
end
