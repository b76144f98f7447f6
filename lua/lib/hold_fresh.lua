-- include lib/are_ids
-- include lib/pack_baskets
-- include lib/read_rows
-- include lib/refuse_units
-- include lib/shard_full
-- include lib/share_out
-- The common case of a batch of holds: nothing is due, and buyers the shard has never seen, each
-- once. No record has to be taken apart, and what is stored is mostly what arrived. Returns the
-- reply; nil if the batch is any other, and then nothing was changed. `closed` is why no hold is
-- taken at all, if so. The hold ids are not even read if nobody gets anything.
local function hold_fresh(shard, keys, book, buyers, baskets, which, closed, blobs)
  local SHARD_FULL, HELD, MALFORMED = 'B', 'H', '!' -- outcomes
  local buyers_blob, ids_blob, marks_blob = unpack(blobs)
  if (shard.due and shard.now >= shard.due) or not baskets[1] then
    return nil
  end
  local records, seen, n = redis.call('HMGET', keys.buyers, unpack(buyers)), {}, #buyers
  for i = 1, n do
    local buyer = buyers[i]
    if records[i] or seen[buyer] or (which and not baskets[which[i]]) then
      return nil
    end
    seen[buyer] = true
  end

  -- What each basket is answered before anybody of this batch has taken anything.
  local full, open, all_lines = shard_full(book, shard, keys.buyers), false, {}
  for b, basket in ipairs(baskets) do
    if basket.refusal == MALFORMED then
      return nil
    end
    all_lines[b] = basket.lines
  end
  read_rows(book, keys.stock, all_lines)
  for _, basket in ipairs(baskets) do
    basket.code = closed or basket.refusal or (full and SHARD_FULL)
      or refuse_units(book, shard, keys, basket.lines, {}, 0)
    open = open or not basket.code
  end
  if not open then
    local codes = {}
    for i = 1, which and n or 1 do
      codes[i] = baskets[which and which[i] or 1].code
    end
    return { tonumber(shard.epoch), shard.now, 0, table.concat(codes), '' }
  end
  local ids = cmsgpack.unpack(ids_blob)
  if #ids ~= n or book.buyers + n > shard.buyers_max or not are_ids(buyers)
    or not are_ids(ids) then
    return nil
  end

  local taken, codes = share_out(book, keys, baskets, which, n)
  if taken and #taken == 0 then -- the open basket is nobody's
    return { tonumber(shard.epoch), shard.now, 0, table.concat(codes), '' }
  end
  local marks = { {}, {} }
  if taken then -- whoever was refused leaves no trace
    local kept = { {}, {}, {} }
    marks = marks_blob ~= '' and cmsgpack.unpack(marks_blob) or marks
    local channels, notes = {}, {}
    for t, i in ipairs(taken) do
      kept[1][t], kept[2][t], kept[3][t] = buyers[i], ids[i], which and which[i] or 1
      channels[t], notes[t] = marks[1][i], marks[2][i]
    end
    buyers, ids, which, n = kept[1], kept[2], kept[3], #taken
    buyers_blob, ids_blob = cmsgpack.pack(buyers), cmsgpack.pack(ids)
    marks_blob = marks_blob ~= '' and cmsgpack.pack({ channels, notes }) or ''
  end
  local deadline = shard.now + shard.ttl
  local head = '1h' .. string.format('%013.0f', deadline)
  local fields, texts, tails = {}, { baskets[1].text }, {}
  for b, basket in ipairs(baskets) do
    tails[b] = (basket.text or '') == '' and '' or '|' .. basket.text
  end
  local tail = tails[1]
  for i = 1, n do
    if which then
      texts[i], tail = baskets[which[i]].text, tails[which[i]]
    end
    fields[2 * i - 1] = buyers[i]
    fields[2 * i] = head .. ids[i] .. tail
  end

  local entry = { 't', shard.now, 'hb', buyers_blob, 'hi', ids_blob }
  local packed = pack_baskets(texts)
  if packed ~= '' then
    entry[7], entry[8] = 'hl', packed
  end
  if marks_blob ~= '' then
    entry[#entry + 1] = 'hm'
    entry[#entry + 1] = marks_blob
  end
  local counters = {}
  for index in pairs(book.changed_rows) do
    local row, c = book.rows[index], #counters
    counters[c + 1], counters[c + 2] = index .. 'a', row.a
    counters[c + 3], counters[c + 4] = index .. 'h', row.h
  end
  local sequence = shard.sequence + 1
  redis.call('XADD', keys.ledger, shard.epoch .. '-' .. sequence, unpack(entry))
  redis.call('HSET', keys.buyers, unpack(fields))
  redis.call('HSET', keys.stock, unpack(counters))
  redis.call('HSET', keys.sale, 'sequence', sequence, 'now', shard.now,
    'due', math.min(shard.due or deadline, deadline))
  return {
    tonumber(shard.epoch), shard.now, deadline, codes and table.concat(codes) or HELD, '',
  }
end
