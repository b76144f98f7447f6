-- include lib/are_ids
-- include lib/counter_of
-- include lib/is_quantity
-- include lib/refuse_units
-- include lib/shard_full
-- include lib/write_table
-- The commonest batch of holds of all: one basket of one line, nothing due, buyers the shard has
-- never seen, each once, and everybody is answered the same. It is written out in one piece, since
-- a call of one hold is paid for in calls, tables and closures: this makes half as many. Returns
-- the reply; nil and the first buyers' records, if they were read, if the batch is any other, and
-- then nothing was changed. The hold ids are not even read if nobody gets anything.
local function hold_plain(shard, keys, buyers, request, closed, blobs)
  local SHARD_FULL, HELD = 'B', 'H' -- outcomes
  local SHORT_READ_MAX = 32
  local named = request[1][1]
  if request[2] or not named or request[1][2] or #named ~= 2 or type(named[1]) ~= 'string'
    or not is_quantity(named[2]) or (shard.due and shard.now >= shard.due) then
    return nil
  end
  local index, qty, n = redis.call('HGET', keys.skus, named[1]), named[2], #buyers
  if not index then
    return nil
  end
  local records
  for from = 1, n, SHORT_READ_MAX do
    records = redis.call('HMGET', keys.buyers,
      unpack(buyers, from, math.min(from + SHORT_READ_MAX - 1, n)))
    for i = 1, #records do
      if records[i] then
        return nil, from == 1 and records or nil
      end
    end
  end
  records = n <= SHORT_READ_MAX and records or nil

  local book, row, code = { new_buyers = 0, work = 0 }, nil, closed
  if not code and shard_full(book, shard, keys.buyers) then
    code = SHARD_FULL
  elseif not code then
    local units = redis.call('HMGET', keys.stock, index .. 'a', index .. 'x', index .. 'h',
      index .. 'l')
    row = {
      a = tonumber(units[1]) or counter_of(nil, index .. 'a'),
      x = tonumber(units[2]) or counter_of(nil, index .. 'x'),
      h = tonumber(units[3]) or counter_of(nil, index .. 'h'),
      limit = units[4] ~= '' and (tonumber(units[4]) or counter_of(nil, index .. 'l')) or nil,
    }
    book.rows = { row }
    code = refuse_units(book, shard, keys, { 1, qty }, {}, 0)
  end
  if code then
    return { tonumber(shard.epoch), shard.now, 0, code, '' }
  end
  local ids = cmsgpack.unpack(blobs.ids)
  if row.a < n * qty or shard_full(book, shard, keys.buyers, n) or #ids ~= n
    or not are_ids(buyers) or not are_ids(ids)
    or string.find(blobs.ids, 'cue~', 1, true) then -- perhaps a winner's
    return nil, records
  end

  local deadline = shard.now + shard.ttl
  local head, text, tail = '1h' .. string.format('%013.0f', deadline), index, ''
  if qty ~= 1 then
    text = index .. '*' .. qty
  end
  local entry = { 't', shard.now, 'hb', blobs.buyers, 'hi', blobs.ids }
  if text ~= '0' then
    tail, entry[7], entry[8] = '|' .. text, 'hl', cmsgpack.pack({ { text } })
  end
  if blobs.marks ~= '' then
    entry[#entry + 1] = 'hm'
    entry[#entry + 1] = blobs.marks
  end
  local fields, seen, f = {}, {}, 1
  for i = 1, n do
    local buyer = buyers[i]
    if seen[buyer] then
      return nil, records
    end
    seen[buyer] = true
    fields[f], fields[f + 1] = buyer, head .. ids[i] .. tail
    f = f + 2
  end
  local sequence, due = shard.sequence + 1, math.min(shard.due or deadline, deadline)
  redis.call('XADD', keys.ledger, shard.epoch .. '-' .. sequence, unpack(entry))
  write_table(keys.buyers, book.buyers == 0, unpack(fields))
  redis.call('HSET', keys.stock, index .. 'a', row.a - n * qty, index .. 'h', row.h + n * qty)
  redis.call('HSET', keys.sale, 'sequence', sequence, 'now', shard.now, 'due', due)
  return { tonumber(shard.epoch), shard.now, deadline, HELD, '' }
end
