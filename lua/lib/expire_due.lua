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
  end

  local most = math.min(budget, 2 * READ_MAX)
  local moved = redis.call('ZRANGEBYSCORE', keys.deadlines, '-inf', shard.now, 'LIMIT', 0, most)
  for _, member in ipairs(moved) do
    local buyer, id = string.match(member, '^([^|]*)|(.*)$')
    if buyer == '' then
      close_reserve(book, keys.stock, id)
    else
      read_records(book, keys.buyers, { buyer })
      expire(buyer, id)
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

  -- Goes over an entry's holds behind the first `looked`; returns how many it has looked at then.
  -- What was paid or has ended otherwise is told by the text of its record, which is not parsed.
  local function expire_entry(held, held_ids, looked, deadline)
    local head = 'h' .. string.format('%013.0f', deadline)
    while looked < #held and not is_over() do
      local buyers, upto = {}, math.min(looked + READ_MAX, #held)
      for i = looked + 1, upto do
        buyers[#buyers + 1] = held[i]
      end
      read_records(book, keys.buyers, buyers)
      while looked < upto and not is_over() do
        looked = looked + 1
        local buyer, id = held[looked], held_ids[looked]
        local record = book.records[buyer]
        if book.holds[buyer] or (record and (string.sub(record, 1, 1) ~= '1'
          or string.find(record, head .. id, 1, true))) then
          expire(buyer, id)
        end
      end
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
      local value = {}
      for k = 1, #entry[2], 2 do
        value[entry[2][k]] = entry[2][k + 1]
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
        if looked == 0 and is_clean(book)
          and settle_plain(shard, keys, { value.hb, value.hi }, held, held_ids, 'e', 'a', true) then
          expired, book.work = expired + #held, book.work + 2 * #held
        else
          looked = expire_entry(held, held_ids, looked, deadline)
          if looked < #held then
            shard.cursor = own .. ':' .. looked
            return expired
          end
        end
      end
      shard.cursor, looked = string.format('%.0f', own + 1), 0
      walked, book.work = walked + 1, book.work + 2
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
