-- include lib/counter_of
-- include lib/pack_baskets
-- Ends a whole batch of the commonest holds at once, or does nothing: each buyer once, with one
-- hold, held, never extended; a record of "1h", 13 digits, the id, and perhaps "|" and a basket.
-- `state` is the new state and the event's letter, `to` the counter that gains; `due` asks that
-- all have fallen due. It writes everything that must agree, so it is a step of its own: the
-- caller has written nothing yet, or only such steps. If it does nothing it also returns the first
-- records, those that were read: a long one, or many bytes of baskets, are for the exact loop,
-- which counts what it does. (Measured: a quarter of the exact loop.)
local function settle_plain(shard, keys, blobs, buyers, ids, state, to, due)
  local n, sub, find = #buyers, string.sub, string.find
  local READ_MAX, BASKETS_MAX = 64, 8192
  -- An id with a separator would pass for other parts of a record. (A length byte may look so,
  -- which costs time and nothing else; the head of the array, where any byte may be, is left out.)
  local first = n < 16 and 2 or 4
  if find(blobs[2], '|', first, true) or find(blobs[2], ';', first, true) then
    return false
  end
  local records, read, bytes = {}, 0, 0
  local now = due and string.format('%013.0f', shard.now)
  local fields, seen, texts, mixed, f = {}, {}, {}, false, 1
  -- The parts around the id, mostly the same for the whole batch: so that a record is checked by
  -- putting together what it should be, and its successor costs one more joining. No record begins
  -- with the first head: with none, an id that reads like a whole record would pass for it.
  local head, text, tail, successor = '|', '', '', ''
  for i = 1, n do
    if i > read then
      read = math.min(read + READ_MAX, n)
      local piece = redis.call('HMGET', keys.buyers, unpack(buyers, i, read))
      for k = 1, #piece do
        records[i + k - 1] = piece[k]
      end
    end
    local record, buyer, id = records[i], buyers[i], ids[i]
    if not record or seen[buyer] or buyer .. '' ~= buyer or id .. '' ~= id then
      return false, records
    end
    if head .. id .. tail ~= record then
      head, text, tail = sub(record, 1, 15), '', ''
      if sub(record, 16) ~= id then
        local bar = 16 + #id
        text = sub(record, bar + 1)
        tail = '|' .. text
        bytes = bytes + #text
        if sub(record, 16, bar) ~= id .. '|' or find(text, '[|;]') or bytes > BASKETS_MAX then
          return false, records
        end
      end
      if sub(head, 1, 2) ~= '1h' or (due and sub(head, 3) > now) then
        return false, records
      end
      successor, mixed = '1' .. state .. sub(head, 3), mixed or (i > 1 and text ~= texts[1])
    end
    seen[buyer] = true
    texts[i] = text
    fields[f], fields[f + 1] = buyer, successor .. id .. tail
    f = f + 2
  end

  local units, names, moved, counters = {}, {}, {}, {}
  for i = 1, mixed and n or 1 do
    local times = mixed and 1 or n
    if texts[i] == '' then
      units['0'] = (units['0'] or 0) + times
    end
    for index, qty in string.gmatch(texts[i], '(%d+)%*?(%d*)') do
      units[index] = (units[index] or 0) + (tonumber(qty) or 1) * times
    end
  end
  for index, qty in pairs(units) do
    local c = #names
    names[c + 1], names[c + 2] = index .. 'h', index .. to
    moved[c + 1], moved[c + 2] = -qty, qty
  end
  local before = redis.call('HMGET', keys.stock, unpack(names))
  for c = 1, #names do
    counters[2 * c - 1], counters[2 * c] = names[c], counter_of(before[c], names[c]) + moved[c]
  end
  local entry = { 't', shard.now, state .. 'b', blobs[1], state .. 'i', blobs[2] }
  local packed = pack_baskets(mixed and texts or { texts[1] })
  if packed ~= '' then
    entry[7], entry[8] = state .. 'l', packed
  end
  shard.sequence = shard.sequence + 1
  redis.call('XADD', keys.ledger, shard.epoch .. '-' .. shard.sequence, unpack(entry))
  redis.call('HSET', keys.buyers, unpack(fields))
  redis.call('HSET', keys.stock, unpack(counters))
  redis.call('HSET', keys.sale, 'sequence', shard.sequence, 'now', shard.now)
  return true
end
