-- include lib/close_reserve
-- include lib/expire_hold
-- include lib/find_hold
-- include lib/is_clean
-- include lib/read_records
-- include lib/settle_plain
-- Sweeps due holds: `budget` of them, rounded up to a whole ledger entry, and walking at most
-- 64 entries. Deadlines that are `time + ttl` fall due in the order of the ledger, so a cursor
-- over it finds them; moved deadlines are in a sorted set, as are the times at which the reserves
-- of cues end (members without a buyer). Afterwards shard.due is the earliest time at which
-- anything may fall due: still <= now if more is waiting. Returns how many holds it expired.
local function expire_due(book, shard, keys, budget)
  if not shard.due or shard.now < shard.due then
    return 0
  end
  shard.swept = true
  local expired = 0

  local function expire_all(buyers, ids)
    read_records(book, keys.buyers, buyers)
    for i = 1, #buyers do
      local buyer, id = buyers[i], ids[i]
      local hold = find_hold(book, buyer, id)
      if hold and hold.state == 'h' and tonumber(hold.stamp) <= shard.now then
        expire_hold(book, keys, buyer, hold)
        expired = expired + 1
      end
    end
  end

  local buyers, ids = {}, {}
  local moved = redis.call('ZRANGEBYSCORE', keys.deadlines, '-inf', shard.now, 'LIMIT', 0, budget)
  for _, member in ipairs(moved) do
    local buyer, id = string.match(member, '^([^|]*)|(.*)$')
    if buyer == '' then
      close_reserve(book, keys.stock, id)
    else
      buyers[#buyers + 1], ids[#ids + 1] = buyer, id
    end
  end
  expire_all(buyers, ids)
  if #moved == budget then
    return expired
  end
  local next_moved = redis.call('ZRANGEBYSCORE', keys.deadlines, '(' .. shard.now, '+inf',
    'WITHSCORES', 'LIMIT', 0, 1)
  local due = tonumber(next_moved[2])

  local walked, finished, count = 0, false, 1
  while not finished and walked < 64 and expired < budget do
    local entries = redis.call('XRANGE', keys.ledger, shard.epoch .. '-' .. shard.cursor, '+',
      'COUNT', count)
    count = math.min(4 * count, 16) -- the first may be all that is needed, and large
    if #entries == 0 then
      finished = true
    end
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
      if value.hb then
        local held, held_ids = cmsgpack.unpack(value.hb), cmsgpack.unpack(value.hi)
        if is_clean(book)
          and settle_plain(shard, keys, { value.hb, value.hi }, held, held_ids, 'e', 'a', true) then
          expired = expired + #held
        else
          expire_all(held, held_ids)
        end
      end
      shard.cursor = tonumber(string.match(entry[1], '%-(%d+)$')) + 1
      walked = walked + 1
      if expired >= budget then
        break
      end
    end
  end
  if finished then
    shard.due = due
  end
  return expired
end
