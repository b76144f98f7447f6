-- include lib/note_sku
-- Notes operation i's outcome; `hold` (if any) adds its state and deadline, as lua/README.md says
-- under "An answer's state and deadline"; `sku` (if any) is the line that a basket was refused for.
local STATE_OF = { H = 'h', C = 'c', F = 'c', A = 'c', R = 'r', E = 'e' } -- implied by a code
local function answer(reply, i, code, hold, replayed, sku)
  local HELD = 'H' -- outcomes
  reply.codes[i] = code
  if not hold then
    if sku then
      note_sku(reply.details, i, '', sku)
    end
    return
  end
  local state = hold.state == 't' and 'r' or hold.state
  if sku then
    return note_sku(reply.details, i, state, sku)
  end
  local deadline = 0
  if code == HELD then
    deadline = tonumber(hold.moved or hold.stamp)
  elseif state == 'h' then
    deadline = tonumber(hold.stamp)
  end
  if replayed or state ~= STATE_OF[code] or (deadline > 0 and code ~= HELD) then
    local details = reply.details
    details[#details + 1] = i
    details[#details + 1] = state
    details[#details + 1] = deadline
    details[#details + 1] = replayed and 1 or 0
  end
end
