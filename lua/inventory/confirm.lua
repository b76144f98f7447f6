#!lua
-- Turns paid holds into sales, whole or some of their lines (the rest is dropped): a batch.
--
-- KEYS  sale skus stock buyers ledger deadlines
-- ARGV  caller_ms   the caller's clock, for the check of the server's
--       buyers      msgpack: array of buyers
--       ids         msgpack: array of hold ids
--       baskets     "" (every hold whole) or msgpack: {{{sku, qty, …}, …}, {which, …}}, a
--                   `which` of 0 meaning the whole hold
--       late        "refuse" or "retake": what to do for an expired hold
-- CODES C CONFIRMED, E EXPIRED, R RELEASED, Q CONFLICT, ? UNKNOWN_HOLD, I NOT_IN_HOLD,
--       S SOLD_OUT, L LIMIT_REACHED, T TRY_AGAIN, J CLOCK_JUMP, * MEMORY_FULL, u SALE_UNKNOWN,
--       p PURGED, ! MALFORMED
-- FULL  all but a retake, which takes stock

local keys = {
  sale = KEYS[1], skus = KEYS[2], stock = KEYS[3], buyers = KEYS[4], ledger = KEYS[5],
  deadlines = KEYS[6],
}
local caller_ms, buyers_blob, ids_blob, baskets_blob, late = unpack(ARGV)
local is_full = false -- true in the twin for a full memory, see flashsale.scripts

-- include lib/load_shard
-- include lib/check_batch
-- include lib/settle_plain

local CONFIRMED, EXPIRED, RELEASED, CONFLICT, MALFORMED = 'C', 'E', 'R', 'Q', '!' -- outcomes
local UNKNOWN_HOLD, NOT_IN_HOLD, CLOCK_JUMP, MEMORY_FULL = '?', 'I', 'J', '*' -- outcomes
local SWEEP_PER_CALL = 128

local shard, refusal, time = load_shard(keys.sale, caller_ms)
if not shard then
  return { 0, time, 0, refusal, '' }
end
local buyers, ids = cmsgpack.unpack(buyers_blob), cmsgpack.unpack(ids_blob)
local n = check_batch(buyers, ids)
local blobs, records = { buyers_blob, ids_blob }, nil
-- What may be due by either clock is for the loop, which looks at each hold's own deadline.
local pending = shard.due and shard.latest >= shard.due
if baskets_blob == '' and not pending then
  local settled
  settled, records = settle_plain(shard, keys, blobs, buyers, ids, 'c', 's')
  if settled then
    return { tonumber(shard.epoch), shard.now, 0, CONFIRMED, '' }
  end
end

-- From here on helpers are made only when they are needed: making them costs as much as a call.

-- include lib/resolve_baskets
-- include lib/new_book
-- include lib/expire_due
-- include lib/expire_buyer
-- include lib/give_back
-- include lib/minus
-- include lib/limited_units
-- include lib/refuse_units
-- include lib/new_reply
-- include lib/answer
-- include lib/send_reply
-- include lib/close_book
-- include lib/is_id
-- include lib/may_judge
-- include lib/is_doubtful

local baskets, which, most = resolve_baskets(keys.skus,
  baskets_blob ~= '' and cmsgpack.unpack(baskets_blob) or nil)
check_batch(buyers, which)
local book = new_book()
expire_due(book, shard, keys, SWEEP_PER_CALL)
pending = shard.due and shard.latest >= shard.due
if baskets_blob == '' and shard.swept and not pending and is_clean(book)
  and settle_plain(shard, keys, blobs, buyers, ids, 'c', 's') then
  close_book(book, shard, keys, {})
  return { tonumber(shard.epoch), shard.now, 0, CONFIRMED, '' }
end

local reply = new_reply()

-- Sells `lines` of a held hold and drops the rest.
local function sell(buyer, hold, lines, rest)
  local text = format_basket(lines)
  hold.state = 'c'
  move_units(book, keys.stock, lines, 'h', 's')
  note_event(book, 'c', buyer, hold.id, text)
  if #rest > 0 then
    hold.kept = text
    give_back(book, keys, hold, rest)
    note_event(book, 'd', buyer, hold.id, format_basket(rest))
  end
  if hold.moved then
    book.deadlines[buyer .. '|' .. hold.id] = false
  end
  touch(book, buyer)
end

-- Takes the lines of an expired hold again and sells them: if it cannot be, an outcome code and the
-- index of the line.
local function retake(buyer, hold, lines, rest)
  if shard.jumped then
    return CLOCK_JUMP
  elseif is_full then
    return MEMORY_FULL
  end
  local per_sku, total = limited_units(book, shard, keys, buyer, lines)
  local code, index = refuse_units(book, shard, keys, lines, per_sku, total)
  if code then
    return code, index
  end
  local text = format_basket(lines)
  hold.state = 'c'
  hold.kept = #rest > 0 and text or nil
  move_units(book, keys.stock, lines, 'a', 's')
  note_event(book, 'a', buyer, hold.id, text)
  note_event(book, 'c', buyer, hold.id, text)
  touch(book, buyer)
  return nil
end

local function confirm(buyer, hold, wanted)
  if hold.state == 't' or hold.state == 'r' then
    return RELEASED
  end
  if hold.state == 'c' or hold.state == 'f' then
    local asked = hold.basket
    if wanted then
      asked = wanted.text -- nil if it names an unknown sku
    end
    local same = (hold.kept or hold.basket) == asked
    return same and CONFIRMED or CONFLICT, same
  end
  if hold.state == 'e' and late ~= 'retake' then
    return EXPIRED
  end
  if hold.state == 'h' and is_doubtful(shard, tonumber(hold.stamp)) then
    return CLOCK_JUMP
  end
  local all = parse_basket(hold.basket)
  local lines = wanted and wanted.lines or all
  local rest = not (wanted and wanted.refusal) and minus(all, lines)
  if not rest then
    return NOT_IN_HOLD
  end
  if hold.state == 'e' then
    local code, index = retake(buyer, hold, lines, rest)
    return code or CONFIRMED, false, index and redis.call('HGET', keys.stock, index .. 'n')
  end
  sell(buyer, hold, lines, rest)
  return CONFIRMED
end

for i = 1, n do
  if (i > book.read or book.work >= book.most)
    and not may_judge(book, keys, buyers, i, reply, records, most) then
    break
  end
  local buyer, id = buyers[i], ids[i]
  local number = baskets[1] and 1 or 0
  if which then
    number = which[i]
  end
  local wanted = baskets[number]
  expire_buyer(book, shard, keys, buyer)
  if not is_id(buyer) or not is_id(id) or (number ~= 0 and not wanted)
    or (wanted and wanted.refusal == MALFORMED) then
    answer(reply, i, MALFORMED)
  else
    local hold = find_hold(book, buyer, id)
    if hold then
      local code, replayed, sku = confirm(buyer, hold, wanted)
      answer(reply, i, code, hold, replayed, sku)
    else
      answer(reply, i, UNKNOWN_HOLD)
    end
  end
end

close_book(book, shard, keys, {})
return send_reply(shard, reply)
