-- include lib/also_write
-- include lib/parse_turn
-- include lib/format_turn
-- The turns of buyers who were admitted from the waiting room: `live[buyer]` is one that has not
-- ended, `take` counts what its buyer takes, `want` what is no longer there, `write` has that
-- written.
-- Both are what turns convert to: counting only what is taken would call ever more people for the
-- few units that come back after a sale has sold out. A turn counts once, with what its buyer took
-- or could ever have had, and so much at most: nobody stops the calls of a sale by wishing for a
-- million, or by taking and giving back.
local function read_turns(keys, buyers, now)
  local TURN_UNITS = 10 -- times the conversion that is assumed, which counts as one at least
  local asked, slots, fields = {}, {}, {}
  for i = 1, #buyers do
    if type(buyers[i]) == 'string' then
      asked[#asked + 1] = buyers[i]
    end
  end
  local live, changed = {}, {}
  for k, text in ipairs(asked[1] and redis.call('HMGET', keys.admitted, unpack(asked)) or {}) do
    local turn = parse_turn(text)
    if turn and now < turn.ends then
      live[asked[k]] = turn
      if not slots[turn.slot] then
        slots[turn.slot] = { done = 0, units = 0 }
        fields[#fields + 1], fields[#fields + 2] = turn.slot .. 'd', turn.slot .. 'u'
      end
    end
  end
  local most = 0
  if fields[1] then
    local values = redis.call('HMGET', keys.room, 'rules', unpack(fields))
    -- As lib/load_room names them.
    local conversion = values[1] and cmsgpack.unpack(values[1])[4] or 1
    most = math.floor(TURN_UNITS * math.max(1, conversion))
    for k, field in ipairs(fields) do
      local slot = slots[tonumber(string.sub(field, 1, -2))]
      slot[k % 2 == 1 and 'done' or 'units'] = tonumber(values[k + 1]) or 0
    end
  end

  local function count(turn, lines)
    local slot, units = slots[turn.slot], 0
    for k = 2, #lines, 2 do
      units = units + lines[k]
    end
    slot.units, slot.changed = slot.units + math.min(units, most), true
  end

  -- Whether the sale ever had so much of each; `rows` are the counters of these skus.
  local function had(lines, rows)
    for k = 1, #lines, 2 do
      local row = rows[lines[k]]
      if lines[k + 1] > row.a + row.x + row.h + row.s then
        return false
      end
    end
    return true
  end

  local function take(buyer, lines)
    local turn = live[buyer]
    if turn.used == '0' then
      count(turn, lines)
    end
    if turn.used ~= '1' then
      local slot = slots[turn.slot]
      slot.done, slot.changed = slot.done + 1, true
      turn.used, changed[buyer] = '1', turn
    end
  end

  local function want(buyer, lines, rows)
    local turn = live[buyer]
    if turn.used == '0' and had(lines, rows) then
      count(turn, lines)
      turn.used, changed[buyer] = 'w', turn
    end
  end

  local function write(book)
    local counts, texts = {}, {}
    for number, slot in pairs(slots) do
      if slot.changed then
        local c = #counts
        counts[c + 1], counts[c + 2] = string.format('%.0fd', number), slot.done
        counts[c + 3], counts[c + 4] = string.format('%.0fu', number), slot.units
      end
    end
    for buyer, turn in pairs(changed) do
      texts[#texts + 1], texts[#texts + 2] = buyer, format_turn(turn)
    end
    also_write(book, 'HSET', keys.room, counts)
    also_write(book, 'HSET', keys.admitted, texts)
  end

  return { live = live, take = take, want = want, write = write }
end
