-- include lib/refuse_units
-- include lib/shard_full
-- The common case of a batch of holds: nothing is due, one basket, and buyers the shard has never
-- seen, each once. They all get the same refusal, or they all are written at once. Returns the
-- reply; nil if the batch is any other, and then nothing was written. `closed` is why no hold is
-- taken at all, if so. The hold ids are not even read for a refusal.
local function hold_fresh(shard, keys, book, buyers, basket, closed, blobs)
  local SHARD_FULL, HELD = 'B', 'H' -- outcomes
  local buyers_blob, ids_blob, marks_blob = unpack(blobs)
  -- A separator here may be an id's or a length byte; the exact loop knows which. (Two plain
  -- searches: a pattern costs 0.13 µs an order.)
  if string.find(ids_blob, ';', 1, true) or string.find(ids_blob, '|', 1, true)
    or (shard.due and shard.now >= shard.due) then
    return nil
  end
  local records, n = redis.call('HMGET', keys.buyers, unpack(buyers)), #buyers
  for i = 1, n do
    if records[i] then
      return nil
    end
  end
  local code = closed or basket.refusal or (shard_full(book, shard, keys.buyers) and SHARD_FULL)
    or refuse_units(book, shard, keys, basket.lines, {}, 0)
  if code then
    return { tonumber(shard.epoch), shard.now, 0, code, '' }
  end

  local ids = cmsgpack.unpack(ids_blob)
  local enough = book.buyers + n <= shard.buyers_max and #ids == n
  local counters = {}
  for k = 1, #basket.lines, 2 do
    local index, units = basket.lines[k], n * basket.lines[k + 1]
    local row, c = book.rows[index], #counters
    enough = enough and row.a >= units
    counters[c + 1], counters[c + 2] = index .. 'a', row.a - units
    counters[c + 3], counters[c + 4] = index .. 'h', row.h + units
  end
  if not enough then
    return nil
  end
  local deadline = shard.now + shard.ttl
  local head = '1h' .. string.format('%013.0f', deadline)
  local tail = basket.text == '' and '' or '|' .. basket.text
  local fields, seen = {}, {}
  for i = 1, n do
    local buyer = buyers[i]
    if seen[buyer] then
      return nil
    end
    seen[buyer] = true
    fields[2 * i - 1] = buyer
    fields[2 * i] = head .. ids[i] .. tail
  end

  local entry = { 't', shard.now, 'hb', buyers_blob, 'hi', ids_blob }
  if tail ~= '' then
    entry[7], entry[8] = 'hl', cmsgpack.pack({ { basket.text } })
  end
  if marks_blob ~= '' then
    entry[#entry + 1] = 'hm'
    entry[#entry + 1] = marks_blob
  end
  local sequence = shard.sequence + 1
  redis.call('XADD', keys.ledger, shard.epoch .. '-' .. sequence, unpack(entry))
  redis.call('HSET', keys.buyers, unpack(fields))
  redis.call('HSET', keys.stock, unpack(counters))
  redis.call('HSET', keys.sale, 'sequence', sequence, 'now', shard.now,
    'due', math.min(shard.due or deadline, deadline))
  return { tonumber(shard.epoch), shard.now, deadline, HELD, '' }
end
