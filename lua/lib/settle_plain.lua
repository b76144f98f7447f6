-- include lib/move_units
-- include lib/new_book
-- include lib/pack_baskets
-- include lib/parse_basket
-- include lib/read_rows
-- Ends a whole batch of the commonest holds at once, or does nothing: each buyer once, with one
-- hold, held, never extended; a record of "1h", 13 digits, the id, and perhaps "|" and a basket.
-- `state` is the new state and the event's letter, `to` the counter that gains; `due` asks that
-- all have fallen due. It writes everything that must agree, so it is a step of its own: the
-- caller has written nothing yet, or only such steps. (Measured: a third of the exact loop.)
local function settle_plain(shard, keys, blobs, buyers, ids, state, to, due)
  -- An id with a separator would pass for other parts of a record. (A length byte may look so.)
  if string.find(blobs[2], '|', 1, true) or string.find(blobs[2], ';', 1, true) then
    return false
  end
  local records = redis.call('HMGET', keys.buyers, unpack(buyers))
  local n, sub, find = #buyers, string.sub, string.find
  local now = string.format('%013.0f', shard.now)
  local fields, seen, texts, count = {}, {}, {}, {}
  for i = 1, n do
    local record, buyer, id = records[i], buyers[i], ids[i]
    if not record or sub(record, 1, 2) ~= '1h' or seen[buyer] or type(buyer) ~= 'string'
      or (due and sub(record, 3, 15) > now) then
      return false
    end
    local text = ''
    if sub(record, 16) ~= id then
      local bar = 16 + #id
      if sub(record, 16, bar) ~= id .. '|' or find(record, '[|;]', bar + 1) then
        return false
      end
      text = sub(record, bar + 1)
    end
    seen[buyer] = true
    texts[i] = text
    count[text] = (count[text] or 0) + 1
    fields[2 * i - 1] = buyer
    fields[2 * i] = '1' .. state .. sub(record, 3)
  end

  local book, counters, all_lines = new_book(), {}, {}
  for text, times in pairs(count) do
    local lines = {}
    for k, value in ipairs(parse_basket(text)) do
      lines[k] = k % 2 == 0 and value * times or value
    end
    all_lines[#all_lines + 1] = lines
  end
  read_rows(book, keys.stock, all_lines)
  for _, lines in ipairs(all_lines) do
    move_units(book, keys.stock, lines, 'h', to)
  end
  for index in pairs(book.changed_rows) do
    local row, c = book.rows[index], #counters
    counters[c + 1], counters[c + 2] = index .. 'h', row.h
    counters[c + 3], counters[c + 4] = index .. to, row[to]
  end
  local entry = { 't', shard.now, state .. 'b', blobs[1], state .. 'i', blobs[2] }
  local packed = pack_baskets(texts)
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
