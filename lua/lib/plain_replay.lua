-- The state letter and the deadline of a buyer's record if it holds nothing but the hold asked for
-- again, never extended, confirmed in part, refunded or buried; else nil. `tail` is "|" and the
-- basket's text, or "" if that is "". The id must have been checked: one with a separator would
-- pass for other parts of a record.
local function plain_replay(record, id, tail)
  local sub = string.sub
  local state = sub(record, 2, 2)
  if sub(record, 16) ~= id .. tail or sub(record, 1, 1) ~= '1' or state == 't' then
    return nil
  end
  return state, tonumber(sub(record, 3, 15))
end
