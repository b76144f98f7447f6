-- include lib/parse_record
-- include lib/sold_lines
-- What an entry's events made of a buyer's record: the holds as they are with all of the events
-- applied, and whether they had been. Each event says what a hold was before it and is after it,
-- and a record is written whole: it has all of the events or none. Nil, and which hold, where
-- neither fits. `stamp` is the deadline of a new hold, `cue` the one whose winners new holds are.
local function redo(record, events, stamp, cue)
  local function find(holds, id)
    for _, hold in ipairs(holds) do
      if hold.id == id then
        return hold
      end
    end
    return nil
  end

  local before = { e = 'h', r = 'h', x = 'h', a = 'e', c = 'h', d = 'c', f = 'c' }
  -- Whether an event's hold is as it was before it; then it is made what it is after it.
  local function apply(holds, event)
    local hold, letter = find(holds, event.id), event.letter
    if letter == 'h' or letter == 't' then
      holds[#holds + 1] = { state = letter, stamp = letter == 't' and '0000000000000' or stamp,
        id = event.id, basket = event.basket, cue = letter == 'h' and cue or nil }
      return not hold
    elseif not hold or hold.state ~= before[letter] then
      return false
    end
    if letter == 'x' then
      local later = string.format('%013.0f', event.extra)
      hold.extends = hold.moved and hold.extends + 1 or 1
      hold.moved = hold.moved or hold.stamp
      local is_later = hold.stamp < later
      hold.stamp = later
      return is_later
    elseif letter == 'f' then
      local refunds = hold.refunds or {}
      for k = 1, #refunds, 2 do
        if refunds[k] == event.extra then
          return false
        end
      end
      refunds[#refunds + 1], refunds[#refunds + 2] = event.extra, event.basket
      hold.refunds = refunds
      hold.state = #sold_lines(hold) == 0 and 'f' or 'c'
      return true
    end
    if letter == 'c' then
      hold.kept = event.basket ~= hold.basket and event.basket or nil
    end
    if letter ~= 'd' then
      hold.state = letter == 'a' and 'h' or letter
    end
    return true
  end

  -- Whether a hold is as the events left it.
  local function is_done(holds, event, is_last)
    local hold, letter = find(holds, event.id), event.letter
    if not hold then
      return false
    elseif letter == 'h' then
      return hold.basket == event.basket
    elseif letter == 'x' then
      return hold.moved ~= nil and tonumber(hold.stamp) >= event.extra
    elseif letter == 'f' then
      for k = 1, #(hold.refunds or {}), 2 do
        if hold.refunds[k] == event.extra then
          return hold.refunds[k + 1] == event.basket
        end
      end
      return false
    elseif letter == 'c' then
      return hold.state == 'c' and (hold.kept or hold.basket) == event.basket
    end
    return not is_last or letter == 'd' or hold.state == letter
  end

  local holds, last = parse_record(record), {}
  for _, event in ipairs(events) do
    last[event.id] = event
  end
  local are_done = true
  for _, event in ipairs(events) do
    are_done = are_done and is_done(holds, event, last[event.id] == event)
  end
  if are_done then
    return holds, true
  end
  for _, event in ipairs(events) do
    if not apply(holds, event) then
      return nil, event.id
    end
  end
  return holds, false
end
