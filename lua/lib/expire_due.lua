-- include lib/close_reserve
-- include lib/cursor_of
-- include lib/expire_hold
-- include lib/find_hold
-- include lib/is_clean
-- include lib/read_records
-- include lib/settle_plain
-- Sweeps due holds: at most `budget` of them (a whole ledger entry, if all of it is of the common
-- kind), and looks at a bounded number of records, whatever becomes of them: most may be paid.
-- Deadlines that are `time + ttl` fall due in the order of the ledger, so a cursor over it finds
-- them; moved deadlines are in a sorted set, as are the times at which the reserves of cues end
-- (members without a buyer). Afterwards shard.due is the earliest time at which anything may fall
-- due: still <= now if more is waiting. Returns how many holds it expired.
local function expire_due(book, shard, keys, budget)
  if not shard.due or shard.now < shard.due then
    return 0
  end
  shard.swept = true
  local READ_MAX, WALK_MAX = 64, 64
  local expired, enough = 0, book.work + math.min(2 * READ_MAX + 8 * budget, 6144)

  local function is_over()
    return expired >= budget or book.work >= enough
  end

  local function expire(buyer, id)
    local hold = find_hold(book, buyer, id)
    book.work = book.work + 1
    if hold and hold.state == 'h' and tonumber(hold.stamp) <= shard.now then
      expire_hold(book, keys, buyer, hold)
      expired = expired + 1
    end
    return hold
  end

  local most = math.min(budget, 2 * READ_MAX)
  local moved = redis.call('ZRANGEBYSCORE', keys.deadlines, '-inf', shard.now, 'LIMIT', 0, most)
  for _, member in ipairs(moved) do
    local buyer, id = string.match(member, '^([^|]*)|(.*)$')
    local hold
    if buyer == '' then
      close_reserve(book, keys.stock, id)
    elseif buyer then
      read_records(book, keys.buyers, { buyer })
      hold = expire(buyer, id)
    end
    if book.deadlines[member] == nil then -- nothing of it was due, or every sweep would meet it
      book.deadlines[member] = hold and hold.state == 'h' and hold.moved and tonumber(hold.stamp)
        or false
    end
    if is_over() then
      return expired
    end
  end
  if #moved == most then
    return expired
  end
  local next_moved = redis.call('ZRANGEBYSCORE', keys.deadlines, '(' .. shard.now, '+inf',
    'WITHSCORES', 'LIMIT', 0, 1)
  local due = tonumber(next_moved[2])

  -- Whether the text of a record may have this hold as a held one: what was paid or has ended
  -- otherwise is not parsed. The search begins at a separator, which no id has: it stops once a
  -- hold.
  local function may_hold(record, text)
    book.work = book.work + 0.5 + #record / 8192
    return string.sub(record, 1, 1) ~= '1' or string.sub(record, 2, 1 + #text) == text
      or string.find(record, ';' .. text, 1, true)
  end

  -- Goes over an entry's holds behind the first `looked`; returns how many it has looked at then.
  -- `known` are their first records, if they were read. What was read is looked at, however much
  -- that was: otherwise a call that reads long records would get nowhere.
  local function expire_entry(held, held_ids, looked, deadline, known)
    local head = 'h' .. string.format('%013.0f', deadline)
    while looked < #held and not is_over() do
      local buyers, upto = {}, math.min(looked + math.max(READ_MAX, known and #known or 0), #held)
      for i = looked + 1, upto do
        buyers[#buyers + 1] = held[i]
      end
      local before = book.work
      read_records(book, keys.buyers, buyers, known)
      local most = enough + book.work - before
      while looked < upto and expired < budget and book.work < most do
        looked = looked + 1
        local buyer, id = held[looked], held_ids[looked]
        local record = book.records[buyer]
        if book.holds[buyer] or (record and may_hold(record, head .. id)) then
          expire(buyer, id)
        end
      end
      known = nil
    end
    return looked
  end

  local walked, finished, count = 0, false, 1
  while not finished and walked < WALK_MAX and not is_over() do
    local sequence, looked = cursor_of(shard)
    local entries = redis.call('XRANGE', keys.ledger, shard.epoch .. '-' .. sequence, '+',
      'COUNT', count)
    count = 4 -- the first may be all that is needed, and any may be large
    finished = #entries == 0
    for _, entry in ipairs(entries) do
      local value, bytes = {}, 0
      for k = 1, #entry[2], 2 do
        value[entry[2][k]] = entry[2][k + 1]
        bytes = bytes + #entry[2][k + 1]
      end
      local deadline = tonumber(value.t) + shard.ttl
      if deadline > shard.now then
        due = math.min(due or deadline, deadline)
        finished = true
        break
      end
      local own = string.match(entry[1], '%-(%d+)$')
      if value.hb then
        local held, held_ids = cmsgpack.unpack(value.hb), cmsgpack.unpack(value.hi)
        local settled, known = false, nil
        -- Whoever was looked at before is not of the common kind: one hold, settled at once.
        if looked == 0 and is_clean(book) and book.records[held[1]] == nil then
          settled, known = settle_plain(shard, keys, { value.hb, value.hi }, held, held_ids, 'e',
            'a', true)
        end
        if settled then
          expired, book.work = expired + #held, book.work + 2 * #held
        else
          looked = expire_entry(held, held_ids, looked, deadline, known)
          if looked < #held then
            shard.cursor = own .. ':' .. looked
            return expired
          end
        end
      end
      shard.cursor, looked = string.format('%.0f', own + 1), 0
      walked, book.work = walked + 1, book.work + 2 + bytes / 512
      if is_over() then
        break
      end
    end
  end
  if finished then
    shard.due = due
  end
  return expired
end
