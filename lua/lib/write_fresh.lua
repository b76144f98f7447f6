-- include lib/pack_baskets
-- include lib/write_table
-- Writes new holds of buyers who had none: the operations in the list `taken`, or all of them if
-- it is nil, and then what arrived goes to the ledger as it came. The book has their units already.
-- Returns the holds' deadline.
local function write_fresh(book, shard, keys, baskets, buyers, ids, which, taken, blobs)
  local buyers_blob, ids_blob, marks_blob, n = blobs.buyers, blobs.ids, blobs.marks, #buyers
  if taken then -- whoever was refused or replayed leaves no trace
    local kept, chosen = { {}, {}, {} }, { {}, {} }
    local marks = marks_blob ~= '' and cmsgpack.unpack(marks_blob) or { {}, {} }
    for t, i in ipairs(taken) do
      kept[1][t], kept[2][t], kept[3][t] = buyers[i], ids[i], which and which[i] or 1
      chosen[1][t], chosen[2][t] = marks[1][i], marks[2][i]
    end
    buyers, ids, which, n = kept[1], kept[2], kept[3], #taken
    buyers_blob, ids_blob = cmsgpack.pack(buyers), cmsgpack.pack(ids)
    marks_blob = marks_blob ~= '' and cmsgpack.pack(chosen) or ''
  end
  local deadline = shard.now + shard.ttl
  local head = '1h' .. string.format('%013.0f', deadline)
  local fields, texts, f = {}, { baskets[1].text }, 1
  local tail = texts[1] == '' and '' or '|' .. (texts[1] or '')
  for i = 1, n do
    if which then
      local text = baskets[which[i]].text
      texts[i], tail = text, text == '' and '' or '|' .. text
    end
    fields[f], fields[f + 1] = buyers[i], head .. ids[i] .. tail
    f = f + 2
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
  local counters, c = {}, 0
  for index in pairs(book.changed_rows) do
    local row = book.rows[index]
    local name = row.name
    counters[c + 1], counters[c + 2], counters[c + 3], counters[c + 4] =
      name .. 'a', row.a, name .. 'h', row.h
    c = c + 4
  end
  local sequence, due = shard.sequence + 1, math.min(shard.due or deadline, deadline)
  redis.call('XADD', keys.ledger, shard.epoch .. '-' .. sequence, unpack(entry))
  write_table(keys.buyers, book.buyers == 0, unpack(fields))
  redis.call('HSET', keys.stock, unpack(counters))
  redis.call('HSET', keys.sale, 'sequence', sequence, 'now', shard.now, 'due', due)
  return deadline
end
