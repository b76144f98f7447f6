#!lua
-- Changes allotments up or down, all lines or none, once by its op_id.
--
-- KEYS  sale skus stock buyers ledger deadlines restocks
-- ARGV  caller_ms   the caller's clock, for the check of the server's
--       op_id       the name of this change
--       changes     msgpack: {sku, change, …}, each change a whole number other than 0
-- CODES k RESTOCKED, Q CONFLICT, U SKU_UNKNOWN, T TRY_AGAIN, b BELOW_COMMITTED,
--       l STOCK_TOO_LARGE, v TOO_MANY_RESTOCKS, u SALE_UNKNOWN, p PURGED, ! MALFORMED

local keys = {
  sale = KEYS[1], skus = KEYS[2], stock = KEYS[3], buyers = KEYS[4], ledger = KEYS[5],
  deadlines = KEYS[6], restocks = KEYS[7],
}
local caller_ms, op_id, changes_blob = unpack(ARGV)

-- include lib/load_shard
-- include lib/new_book
-- include lib/expire_due
-- include lib/counter_of
-- include lib/damaged
-- include lib/read_rows
-- include lib/new_reply
-- include lib/answer
-- include lib/send_reply
-- include lib/also_write
-- include lib/close_book
-- include lib/is_id

local RESTOCKED, CONFLICT, SKU_UNKNOWN, MALFORMED = 'k', 'Q', 'U', '!' -- outcomes
local TRY_AGAIN, BELOW_COMMITTED = 'T', 'b' -- outcomes
local STOCK_TOO_LARGE, TOO_MANY_RESTOCKS = 'l', 'v' -- outcomes
local SWEEP_PER_CALL, STOCK_MAX, RESTOCKS_MAX, SKUS_MAX = 128, 1e12, 10000, 1000

local shard, refusal, time = load_shard(keys.sale, caller_ms)
if not shard then
  return { 0, time, 0, refusal, '' }
end
local changes = cmsgpack.unpack(changes_blob)
local book = new_book()
local fields = {}

-- The changes by index in ascending order, as {index, change, …}, or an outcome code.
local function resolve()
  if not is_id(op_id) or #changes == 0 or #changes % 2 == 1 or #changes > 2 * SKUS_MAX then
    return nil, MALFORMED
  end
  local names, order, by_index = {}, {}, {}
  for k = 1, #changes, 2 do
    local name, change = changes[k], changes[k + 1]
    if not is_id(name) or type(change) ~= 'number' or change % 1 ~= 0 or change == 0
      or math.abs(change) > STOCK_MAX then
      return nil, MALFORMED
    end
    names[#names + 1] = name
  end
  for k, text in ipairs(redis.call('HMGET', keys.skus, unpack(names))) do
    local index = tonumber(text)
    if not index and redis.call('HLEN', keys.skus) == 0 then -- every sale has skus
      damaged('the key skus')
    elseif not index then
      return nil, SKU_UNKNOWN
    elseif by_index[index] then
      return nil, MALFORMED
    end
    by_index[index] = changes[2 * k]
    order[#order + 1] = index
  end
  table.sort(order)
  local lines = {}
  for _, index in ipairs(order) do
    lines[#lines + 1] = index
    lines[#lines + 1] = by_index[index]
  end
  return lines, nil
end

local function restock(lines, body, before)
  if before then
    return before == body and RESTOCKED or CONFLICT, before == body
  end
  local allotments, names = {}, {}
  for k = 1, #lines, 2 do
    names[#names + 1] = lines[k] .. 't'
  end
  local before_it = redis.call('HMGET', keys.stock, unpack(names))
  read_rows(book, keys.stock, { lines })
  for k = 1, #lines, 2 do
    local row, change = book.rows[lines[k]], lines[k + 1]
    local allotment = counter_of(before_it[(k + 1) / 2], lines[k] .. 't')
    if row.a + change < 0 then
      local may_return = row.a + row.h + row.x + change >= 0
      return may_return and shard.due and shard.now >= shard.due and TRY_AGAIN or BELOW_COMMITTED
    end
    if allotment + change > STOCK_MAX then
      return STOCK_TOO_LARGE
    end
    allotments[#allotments + 1] = lines[k] .. 't'
    allotments[#allotments + 1] = allotment + change
  end
  if redis.call('HLEN', keys.restocks) >= RESTOCKS_MAX then
    return TOO_MANY_RESTOCKS
  end
  for k = 1, #lines, 2 do
    book.rows[lines[k]].a = book.rows[lines[k]].a + lines[k + 1]
    book.changed_rows[lines[k]] = true
  end
  fields = { 'k', cmsgpack.pack({ op_id, lines }) }
  return RESTOCKED, false, allotments
end

-- Read before the sweep, which is a step of its own: a wrong type must stop that too.
local before = redis.call('HGET', keys.restocks, op_id)
local lines, code = resolve()
if before and code == SKU_UNKNOWN then
  code = CONFLICT
end
expire_due(book, shard, keys, SWEEP_PER_CALL)
local replayed, allotments
if lines then
  local body = cmsgpack.pack(lines)
  code, replayed, allotments = restock(lines, body, before)
  if allotments then
    also_write(book, 'HSET', keys.stock, allotments)
    also_write(book, 'HSET', keys.restocks, { op_id, body })
  end
end
close_book(book, shard, keys, fields)
local reply = new_reply()
answer(reply, 1, code)
if replayed then
  reply.details = { 1, '', 0, 1 }
end
return send_reply(shard, reply)
