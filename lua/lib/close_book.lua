-- include lib/format_record
-- include lib/in_pieces
-- include lib/ledger_entry
-- Writes what the call has decided, or nothing if nothing changes. Every list is made before the
-- first write, and every list may be long: one call may sweep the holds of a thousand buyers and
-- the reserves of a thousand cues. The ledger comes first: a wrong type there, or a sequence that
-- does not go up, must stop everything else. The sale's own hash comes last: as long as it has the
-- sequence of before, what follows the ledger's entry is not all there (ledger/repair). `fields`
-- are further fields of the ledger entry: {name, value, …}.
local function close_book(book, shard, keys, fields)
  local entry = ledger_entry(book, shard, fields)
  local happened = #entry > 2
  local sequence = shard.sequence + (happened and 1 or 0)
  local position = {
    'sequence', sequence, 'now', shard.now, 'due', shard.due or '', 'cursor', shard.cursor,
    'seats', shard.seats + book.seats,
  }
  local sets, removals = {}, {} -- a sweep may change the deadlines though nothing happened
  for member, deadline in pairs(book.deadlines) do
    if deadline then
      sets[#sets + 1], sets[#sets + 2] = deadline, member
    else
      removals[#removals + 1] = member
    end
  end
  if #sets + #removals > 0 then
    redis.call('ZCARD', keys.deadlines) -- proves the type before the first write
  end
  local records, counters, gone = {}, {}, {}
  if happened then
    for i, buyer in ipairs(book.touched) do
      local holds = book.holds[buyer]
      records[2 * i - 1] = buyer
      records[2 * i] = holds and format_record(holds) or book.records[buyer]
    end
    for index in pairs(book.changed_rows) do
      local row, c = book.rows[index], #counters
      counters[c + 1], counters[c + 2] = row.name .. 'a', row.a
      counters[c + 3], counters[c + 4] = row.name .. 'h', row.h
      counters[c + 5], counters[c + 6] = row.name .. 's', row.s
      if next(book.aside) then
        counters[c + 7], counters[c + 8] = row.name .. 'x', row.x
      end
    end
    for field, units in pairs(book.parts) do
      if units then
        counters[#counters + 1], counters[#counters + 2] = field, units
      else
        gone[#gone + 1] = field
      end
    end
    shard.sequence = sequence
    redis.call('XADD', keys.ledger, shard.epoch .. '-' .. shard.sequence, unpack(entry))
  end
  in_pieces('ZADD', keys.deadlines, sets)
  in_pieces('ZREM', keys.deadlines, removals)
  in_pieces('HSET', keys.buyers, records)
  in_pieces('HSET', keys.stock, counters)
  in_pieces('HDEL', keys.stock, gone)
  for _, write in ipairs(book.writes) do
    in_pieces(write.command, write.key, write.values)
  end
  if happened or shard.swept or book.writes[1] then
    redis.call('HSET', keys.sale, unpack(position))
  end
end
