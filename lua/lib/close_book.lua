-- include lib/format_record
-- include lib/pack_baskets
-- Writes what the call has decided, or nothing if nothing changes. The ledger comes first: a
-- wrong type there, or a sequence that does not go up, must stop everything else. `fields` are
-- further fields of the ledger entry: {name, value, …}.
local function close_book(book, shard, keys, fields)
  local entry = { 't', shard.now }
  for letter in string.gmatch('ethacdrxf', '.') do
    local event = book.events[letter]
    if event then
      entry[#entry + 1] = letter .. 'b'
      entry[#entry + 1] = cmsgpack.pack(event.buyers)
      entry[#entry + 1] = letter .. 'i'
      entry[#entry + 1] = cmsgpack.pack(event.ids)
      local baskets = pack_baskets(event.baskets)
      if baskets ~= '' then
        entry[#entry + 1] = letter .. 'l'
        entry[#entry + 1] = baskets
      end
      if letter == 'x' or letter == 'f' then
        entry[#entry + 1] = letter == 'x' and 'xd' or 'fo'
        entry[#entry + 1] = cmsgpack.pack(event.extra)
      end
    end
  end
  local moves = {}
  for cue, changes in pairs(book.aside) do
    local flat = { cue }
    for index, qty in pairs(changes) do
      if qty ~= 0 then
        flat[#flat + 1], flat[#flat + 2] = index, qty
      end
    end
    moves[#moves + 1] = flat
  end
  if #moves > 0 then
    entry[#entry + 1] = 'v'
    entry[#entry + 1] = cmsgpack.pack(moves)
  end
  for k = 1, #fields do
    entry[#entry + 1] = fields[k]
  end
  local happened = #entry > 2
  if happened then
    local sets, removals = {}, {}
    for member, deadline in pairs(book.deadlines) do
      if deadline then
        sets[#sets + 1] = deadline
        sets[#sets + 1] = member
      else
        removals[#removals + 1] = member
      end
    end
    if #sets + #removals > 0 then
      redis.call('ZCARD', keys.deadlines) -- proves the type before the first write
    end
    shard.sequence = shard.sequence + 1
    redis.call('XADD', keys.ledger, shard.epoch .. '-' .. shard.sequence, unpack(entry))
    if #sets > 0 then
      redis.call('ZADD', keys.deadlines, unpack(sets))
    end
    if #removals > 0 then
      redis.call('ZREM', keys.deadlines, unpack(removals))
    end
    local records = {}
    for i, buyer in ipairs(book.touched) do
      records[2 * i - 1] = buyer
      local holds = book.holds[buyer]
      records[2 * i] = holds and format_record(holds) or book.records[buyer]
    end
    if #records > 0 then
      redis.call('HSET', keys.buyers, unpack(records))
    end
    local counters, gone = {}, {}
    for index in pairs(book.changed_rows) do
      local row = book.rows[index]
      for _, counter in ipairs(#moves > 0 and { 'a', 'x', 'h', 's' } or { 'a', 'h', 's' }) do
        counters[#counters + 1] = row.name .. counter
        counters[#counters + 1] = row[counter]
      end
    end
    for field, units in pairs(book.parts) do
      if units then
        counters[#counters + 1] = field
        counters[#counters + 1] = units
      else
        gone[#gone + 1] = field
      end
    end
    if #counters > 0 then
      redis.call('HSET', keys.stock, unpack(counters))
    end
    if #gone > 0 then
      redis.call('HDEL', keys.stock, unpack(gone))
    end
  end
  if happened or shard.swept then
    redis.call('HSET', keys.sale, 'sequence', shard.sequence, 'now', shard.now,
      'due', shard.due or '', 'cursor', shard.cursor)
  end
end
