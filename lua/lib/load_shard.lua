-- include lib/damaged
-- The shard's rules and position, and the time of this call; or nil, an outcome code and the
-- server's time.
-- A wall clock that stands still or goes back leaves the time where it was. One that is far
-- ahead of both the shard and the caller is not believed (`jumped`): the time stays where it was,
-- and what falls due between that and `latest` is judged by nobody, see lib/is_doubtful.
-- Every field is looked at here: what is lost must never be found missing behind a write, and never
-- be taken for "there is none". Each number is read once, and all are compared together.
local function load_shard(k_sale, caller_text)
  local CLOCK_JUMP_MAX = 60000
  local SALE_UNKNOWN, PURGED = 'u', 'p' -- outcomes
  local sale = redis.call('HMGET', k_sale, 'format', 'state', 'epoch', 'sequence', 'now', 'due',
    'cursor', 'seats', 'rules')
  local time = redis.call('TIME')
  local wall = time[1] * 1000 + math.floor(time[2] / 1000)
  if not sale[1] then
    return nil, SALE_UNKNOWN, wall
  end
  if sale[1] ~= '1' then
    error({ err = 'FLASHSALE_FORMAT the sale is in format ' .. sale[1] .. ', this script reads 1' })
  end
  if sale[2] == 'purged' then
    return nil, PURGED, wall
  end
  if not string.find(caller_text, '^%d+$') then
    error({ err = 'FLASHSALE_MALFORMED the caller\'s time must be milliseconds' })
  end
  local sequence, last, due = tonumber(sale[4]), tonumber(sale[5]), tonumber(sale[6])
  local seats = tonumber(sale[8])
  if not (sequence and last and (due or sale[6] == '') and seats
    and string.find(sale[3] or '', '^%d+$') and string.find(sale[7] or '', '^%d+:?%d*$')
    and sequence >= 0 and last >= 0 and (due or 0) >= 0 and seats >= 0
    and (sequence + last + (due or 0) + seats) % 1 == 0) then
    local NAMES = { 'epoch', 'sequence', 'now', 'due', 'cursor', 'seats' }
    local FORMS = { '^%d+$', '^%d+$', '^%d+$', '^%d*$', '^%d+:?%d*$', '^%d+$' }
    for i, name in ipairs(NAMES) do
      if not string.find(sale[i + 2] or '?', FORMS[i]) then
        damaged('the field ' .. name .. ' of the key sale')
      end
    end
  end
  if sale[2] ~= 'running' and sale[2] ~= 'paused' and sale[2] ~= 'ended' then
    damaged('the field state of the key sale')
  end
  local jumped = wall > last + CLOCK_JUMP_MAX and wall > tonumber(caller_text) + CLOCK_JUMP_MAX
  local now = wall
  if jumped or wall < last then
    now = last
  end
  local rules = cmsgpack.unpack(sale[9] or damaged('the field rules of the key sale'))
  return {
    state = sale[2],
    epoch = sale[3],
    sequence = sequence,
    now = now,
    jumped = jumped,
    latest = jumped and wall or now, -- the time if the server's clock is right after all
    due = due, -- nil: nothing can fall due
    cursor = sale[7], -- lib/cursor_of reads it
    seats = seats, -- of buyers_max, kept for those who may yet win in a cue
    ttl = rules[1],
    opens = rules[2], -- false, as the next two: there is none
    closes = rules[3],
    limit = rules[4],
    holds_max = rules[5],
    extend_max = rules[6],
    buyers_max = rules[7],
    admission = rules[8], -- only who was admitted from the waiting room may hold
    key_holds_max = rules[9], -- holds of one key, or false
  }
end
