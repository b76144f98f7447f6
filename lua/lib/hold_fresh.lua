-- include lib/are_ids
-- include lib/judge_baskets
-- include lib/note_sku
-- include lib/plain_replay
-- include lib/shard_full
-- include lib/share_out
-- include lib/write_fresh
-- The common case of a batch of holds: nothing is due, and buyers the shard has never seen, each
-- once, or who ask again for the one plain hold they have. Hardly a record has to be taken apart,
-- and what is stored is mostly what arrived. Returns the reply; nil and the buyers' records, if
-- they were read, if the batch is any other, and then nothing was changed. `closed` is why no hold
-- is taken at all, if so; `records` are the first buyers' if they were read before. The hold ids
-- are not even read if nobody gets anything.
local function hold_fresh(shard, keys, buyers, baskets, which, closed, blobs, records)
  local MALFORMED = '!' -- outcomes
  local SHORT_READ_MAX, PLAIN_MAX, FRESH_LINES_MAX = 32, 512, 8192
  if (shard.due and shard.now >= shard.due) or not baskets[1] then
    return nil
  end
  for b = 1, #baskets do
    if baskets[b].refusal == MALFORMED then
      return nil
    end
  end
  local known, n, lines, one = false, #buyers, 0, not which and baskets[1]
  records = records or {}
  local read = #records
  for i = 1, n do
    if i > read then
      read = math.min(read + SHORT_READ_MAX, n)
      local piece = redis.call('HMGET', keys.buyers,
        unpack(buyers, i, read))
      for k = 1, #piece do
        records[i + k - 1] = piece[k]
      end
    end
    local record, basket = records[i], one or baskets[which[i]]
    if not basket or (record and #record > PLAIN_MAX) then
      return nil, records
    end
    known, lines = known or record, lines + #basket.lines
  end
  if lines > 2 * FRESH_LINES_MAX then
    return nil, records
  end

  local book = { work = 0, rows = {}, changed_rows = {}, new_buyers = 0 }
  local open = judge_baskets(book, shard, keys, baskets, closed)
  if not open and not known then
    local codes, details = {}, {}
    for i = 1, (which or baskets[1].sku) and n or 1 do
      local basket = baskets[which and which[i] or 1]
      codes[i] = basket.code
      if basket.sku then
        note_sku(details, i, '', basket.sku)
      end
    end
    return {
      tonumber(shard.epoch), shard.now, 0, table.concat(codes),
      details[1] and cmsgpack.pack(details) or '',
    }
  end
  local ids = cmsgpack.unpack(blobs.ids)
  if #ids ~= n or (open and shard_full(book, shard, keys.buyers, n))
    or not are_ids(buyers) or not are_ids(ids)
    or string.find(blobs.ids, 'cue~', 1, true) then -- perhaps a winner's
    return nil, records
  end
  local seen, replayed, details = {}, known and {}, {}
  for i = 1, n do
    local buyer = buyers[i]
    if records[i] then
      local text = baskets[which and which[i] or 1].text
      local state, deadline
      if text then
        state, deadline = plain_replay(records[i], ids[i], text == '' and '' or '|' .. text)
      end
      if not state then
        return nil, records
      end
      local d = #details
      details[d + 1], details[d + 2], details[d + 3], details[d + 4] = i, state, deadline, 1
      replayed[i] = true
    elseif seen[buyer] then
      return nil, records
    end
    seen[buyer] = true
  end

  local taken, codes = share_out(book, keys, baskets, which, n, replayed, details)
  local deadline = 0
  if not taken or #taken > 0 then
    deadline = write_fresh(book, shard, keys, baskets, buyers, ids, which, taken, blobs)
  end
  return {
    tonumber(shard.epoch), shard.now, deadline, codes and table.concat(codes) or 'H',
    details[1] and cmsgpack.pack(details) or '',
  }
end
