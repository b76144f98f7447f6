#!lua
-- Opens a cue, once for ever: sets its stock aside, or takes what a void cue has kept, keeps a seat
-- among the shard's buyers for each unit (SHARD_FULL where there are not so many), and fixes its
-- times, all of which must lie within the sale's opening hours. The same definition again changes
-- nothing, whatever the clocks say by then.
--
-- KEYS  sale skus stock buyers ledger deadlines cues cue secrets source
-- ARGV  caller_ms   the caller's clock, for the check of the server's
--       id          the cue's
--       definition  what was asked for, as canonical JSON, kept for comparison
--       stock_of    the void cue whose stock it takes (`source` is its key), or "" (then `source`
--                   is not looked at)
--       units       msgpack: {sku, qty, …}; a qty of 0 is all that there is. None: all of the void
--                   cue's
--       times       msgpack: {position, cue's server time, ahead, window, windows, credit, closes,
--                   entropy time or false, reserve or false (the sale's ttl), kept or false,
--                   entries_max, reveals, wait from the digest's publication or false}
--       fields      msgpack: {name, value, …}: what else the cue's hash is to keep
--       sealed      msgpack: the same, of its secrets
-- CODES c CUED, Q CONFLICT, Z ENDED, N NOT_OPEN, K CLOSED, U SKU_UNKNOWN, S SOLD_OUT,
--       T TRY_AGAIN, J CLOCK_JUMP, y TOO_LATE, i TOO_MANY_CUES, B SHARD_FULL, u SALE_UNKNOWN,
--       p PURGED, ! MALFORMED, and of the source: m CUE_UNKNOWN, j NOT_CLOSED, f FROZEN, g SETTLED

local keys = {
  sale = KEYS[1], skus = KEYS[2], stock = KEYS[3], buyers = KEYS[4], ledger = KEYS[5],
  deadlines = KEYS[6], cues = KEYS[7], cue = KEYS[8], secrets = KEYS[9], source = KEYS[10],
}
local caller_ms, id, definition, stock_of, units_blob, times_blob, fields_blob, sealed_blob =
  unpack(ARGV)

-- include lib/load_shard
-- include lib/new_book
-- include lib/expire_due
-- include lib/also_write
-- include lib/close_book
-- include lib/set_aside
-- include lib/shard_full
-- include lib/is_id
-- include lib/sku_index
-- include lib/load_cue
-- include lib/why_kept
-- include lib/counter_of

local CUED, CONFLICT, ENDED, SKU_UNKNOWN, SOLD_OUT = 'c', 'Q', 'Z', 'U', 'S' -- outcomes
local TRY_AGAIN, CLOCK_JUMP, TOO_LATE = 'T', 'J', 'y' -- outcomes
local TOO_MANY_CUES, MALFORMED = 'i', '!' -- outcomes
local NOT_OPEN, CLOSED, SHARD_FULL = 'N', 'K', 'B' -- outcomes
local CUES_MAX, LINES_MAX, SWEEP_PER_CALL = 1000, 32, 128
local DURATION_MAX, TIME_MAX = 2592000000, 9999999999999

local shard, refusal, time = load_shard(keys.sale, caller_ms)
if not shard then
  return { 0, time, 0, refusal, '' }
end
local epoch = tonumber(shard.epoch)
local known = redis.call('HMGET', keys.cue, 'format', 'definition')
if known[1] then
  if known[1] ~= '1' then
    error({ err = 'FLASHSALE_FORMAT the cue is in format ' .. known[1] .. ', this script reads 1' })
  end
  local same = known[2] == definition
  local replayed = same and cmsgpack.pack({ 1, '', 0, 1 }) or ''
  return { epoch, shard.now, 0, same and CUED or CONFLICT, replayed }
end
local units, times, fields, sealed = cmsgpack.unpack(units_blob), cmsgpack.unpack(times_blob),
  cmsgpack.unpack(fields_blob), cmsgpack.unpack(sealed_blob)
local writable = #sealed > 0
for _, values in ipairs({ fields, sealed }) do
  writable = writable and #values % 2 == 0 and #values <= 64
  for k = 1, #values do
    writable = writable and (type(values[k]) == 'string' or type(values[k]) == 'number')
  end
end
if not is_id(id) or #times ~= 13 or (#units == 0 and stock_of == '') or #units % 2 ~= 0
  or #units > 2 * LINES_MAX
  or not writable or type(times[12]) ~= 'number' or times[12] > TIME_MAX - 2 * DURATION_MAX
  or (times[13] and (type(times[13]) ~= 'number' or times[13] > DURATION_MAX)) then
  return { epoch, shard.now, 0, MALFORMED, '' }
end
local number_of_cues = redis.call('HLEN', keys.cues)
redis.call('HLEN', keys.skus) -- a wrong type must stop the sweep, which is a step of its own
redis.call('HLEN', keys.secrets)
redis.call('HLEN', keys.source)

local book = new_book()
expire_due(book, shard, keys, SWEEP_PER_CALL)

-- What of a sku the cue may set aside: all that is available, or what the void cue keeps.
local function there_is(row, index)
  if stock_of == '' then
    return row.a
  end
  local field = index .. 'x:' .. stock_of
  return counter_of(redis.call('HGET', keys.stock, field) or '0', field)
end

-- Why a void cue does not give its stock to this one, or nil.
local function refuse_source()
  if stock_of == '' then
    return nil
  end
  local source, unknown = load_cue(keys.source)
  if not source then
    return unknown
  end
  if source.id ~= stock_of then
    return MALFORMED
  end
  for k = 1, #units == 0 and #source.lines or 0, 4 do
    local field = source.lines[k + 1] .. 'x:' .. stock_of
    if counter_of(redis.call('HGET', keys.stock, field) or '0', field) > 0 then
      units[#units + 1], units[#units + 2] = source.lines[k], 0
    end
  end
  return why_kept(shard, source, keys.source) or #units == 0 and SOLD_OUT or nil
end

-- The lines {sku, index, units, limit or false, …}, or nil and why the cue is refused.
local function judge()
  if shard.state == 'ended' then
    return nil, ENDED
  elseif shard.opens and shard.opens > times[2] then
    return nil, NOT_OPEN
  elseif shard.closes and shard.closes < times[7] then
    return nil, CLOSED
  elseif shard.jumped then
    return nil, CLOCK_JUMP
  elseif shard.now >= times[7] then
    return nil, TOO_LATE
  elseif number_of_cues >= CUES_MAX then
    return nil, TOO_MANY_CUES
  end
  local refused = refuse_source()
  if refused then
    return nil, refused
  end
  local lines, seen = {}, {}
  for k = 1, #units, 2 do
    local sku, qty = units[k], units[k + 1]
    if not is_id(sku) or seen[sku] or type(qty) ~= 'number' or qty < 0 or qty > 1e12
      or qty % 1 ~= 0 then
      return nil, MALFORMED
    end
    seen[sku] = true
    local index = sku_index(keys.skus, sku)
    if not index then
      return nil, SKU_UNKNOWN
    end
    local row = sku_row(book, keys.stock, index)
    local most = there_is(row, index)
    qty = qty == 0 and most or qty
    if qty == 0 or most < qty then
      local may_return = stock_of == '' and row.a + row.h + row.x >= math.max(qty, 1)
      return nil, may_return and shard.due and shard.now >= shard.due and TRY_AGAIN or SOLD_OUT
    end
    local n = #lines
    lines[n + 1], lines[n + 2], lines[n + 3], lines[n + 4] = sku, index, qty, row.limit or false
  end
  return lines, nil
end

local lines, code = judge()
local all = 0
for k = 1, lines and #lines or 0, 4 do
  all = all + lines[k + 2]
end
-- A void cue has kept its units, seats and all.
if lines and stock_of == '' and shard_full(book, shard, keys.buyers, all) then
  lines, code = nil, SHARD_FULL
end
if lines then
  local indexes = {}
  for k = 1, #lines, 4 do
    set_aside(book, keys.stock, id, lines[k + 1], lines[k + 2])
    if stock_of ~= '' then
      set_aside(book, keys.stock, stock_of, lines[k + 1], -lines[k + 2])
    end
    indexes[#indexes + 1] = lines[k + 1]
  end
  book.parts['x:' .. id] = table.concat(indexes, ',')
end
if lines then
  times[9] = times[9] or shard.ttl
  times[12], times[13], times[14], times[15] = shard.limit, times[12], times[13],
    shard.key_holds_max
  also_write(book, 'HSET', keys.cues, { id, shard.sequence + 1 })
  also_write(book, 'HSET', keys.secrets, sealed)
  also_write(book, 'HSET', keys.cue, { 'format', '1', 'id', id, 'definition', definition,
    'state', 'open', 'rules', cmsgpack.pack(times), 'lines', cmsgpack.pack(lines),
    'opened_at', shard.now, 'entered', 0, 'judged', 0, unpack(fields) })
end
close_book(book, shard, keys, {})
return { epoch, shard.now, 0, code or CUED, '' }
