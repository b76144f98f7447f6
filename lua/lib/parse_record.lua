-- The holds of a buyer's record as a list of {state, stamp, id, basket, moved, kept,
-- extends, cue, refunds}:
-- `stamp` is the deadline and `moved` the original one, both as 13 digits; `basket` and `kept`
-- are texts; `refunds` is a list {op_id, basket, …}. The grammar is in lua/README.md.
local function parse_record(record)
  local holds = {}
  if not record then
    return holds
  end
  if string.sub(record, 1, 1) ~= '1' then
    error({ err = 'FLASHSALE_FORMAT a buyer\'s record is in a format this script does not read' })
  end
  for text in string.gmatch(string.sub(record, 2), '[^;]+') do
    local hold = { state = string.sub(text, 1, 1), stamp = string.sub(text, 2, 14), basket = '' }
    local bar = string.find(text, '|', 15, true)
    if bar then
      hold.id = string.sub(text, 15, bar - 1)
      hold.basket = string.match(text, '^[^|]*', bar + 1)
      for kind, value in string.gmatch(string.sub(text, bar + 1 + #hold.basket), '|(%a)([^|]*)') do
        if kind == 'o' then
          hold.moved, hold.extends = string.sub(value, 1, 13), tonumber(string.sub(value, 15)) or 1
        elseif kind == 'k' then
          hold.kept = value
        elseif kind == 'w' then
          hold.cue = value
        elseif kind == 'f' then
          local op_id, lines = string.match(value, '^([^:]*):(.*)$')
          hold.refunds = hold.refunds or {}
          table.insert(hold.refunds, op_id)
          table.insert(hold.refunds, lines)
        end
      end
    else
      hold.id = string.sub(text, 15)
    end
    holds[#holds + 1] = hold
  end
  return holds
end
