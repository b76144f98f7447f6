#!lua
-- Takes stock for buyers until a deadline: a batch of holds, judged in order.
--
-- KEYS  sale skus stock buyers ledger deadlines room admitted caps
-- ARGV  caller_ms   the caller's clock, for the check of the server's
--       buyers      msgpack: array of buyers
--       ids         msgpack: array of hold ids
--       baskets     msgpack: {{{sku, qty, …}, …}, {which, …} or nothing}
--       marks       "" or msgpack: {{channel, …}, {note, …}}
--       cap_keys     "" or msgpack: the keys whose holds are counted, "" without one
-- CODES H HELD, S SOLD_OUT, L LIMIT_REACHED, M TOO_MANY_HOLDS, N NOT_OPEN, K CLOSED, P PAUSED,
--       Z ENDED, U SKU_UNKNOWN, B SHARD_FULL, J CLOCK_JUMP, T TRY_AGAIN, Q CONFLICT, R RELEASED,
--       6 NOT_ADMITTED, + KEY_LIMIT, u SALE_UNKNOWN, p PURGED, ! MALFORMED

local keys = {
  sale = KEYS[1], skus = KEYS[2], stock = KEYS[3], buyers = KEYS[4], ledger = KEYS[5],
  deadlines = KEYS[6], room = KEYS[7], admitted = KEYS[8], caps = KEYS[9],
}
local caller_ms, buyers_blob, ids_blob, baskets_blob, marks_blob, cap_keys_blob = unpack(ARGV)

-- include lib/load_shard
-- include lib/check_batch
-- include lib/why_closed
-- include lib/hold_plain

local HELD, RELEASED, CONFLICT, MALFORMED = 'H', 'R', 'Q', '!' -- outcomes
local SOLD_OUT, SOLD_OUT_MAY_RETURN = 'S', 's' -- outcomes
local TOO_MANY_HOLDS, SHARD_FULL, NOT_ADMITTED, KEY_LIMIT = 'M', 'B', '6', '+' -- outcomes
local SWEEP_PER_CALL = 128

local shard, refusal, time = load_shard(keys.sale, caller_ms)
if not shard then
  return { 0, time, 0, refusal, '' }
end
local buyers, request = cmsgpack.unpack(buyers_blob), cmsgpack.unpack(baskets_blob)
local marks = marks_blob ~= '' and cmsgpack.unpack(marks_blob)
local n = check_batch(buyers, request[2], marks and (marks[1] or {}), marks and (marks[2] or {}))
local closed = why_closed(shard)
-- The two short ways know neither turns nor counts of keys.
local is_short = not shard.admission and (cap_keys_blob == '' or not shard.key_holds_max)
local blobs, records
if is_short then
  local told
  blobs = { buyers = buyers_blob, ids = ids_blob, marks = marks_blob }
  told, records = hold_plain(shard, keys, buyers, request, closed, blobs)
  if told then
    return told
  end
end

-- From here on helpers are made only when they are needed: making them costs as much as a hold.

-- include lib/resolve_baskets
-- include lib/hold_fresh

local baskets, which, most = resolve_baskets(keys.skus, request)
if is_short and not most then
  local told
  told, records = hold_fresh(shard, keys, buyers, baskets, which, closed, blobs, records)
  if told then
    return told
  end
end

-- The exact loop, one operation after the other.

-- include lib/new_book
-- include lib/expire_due
-- include lib/expire_buyer
-- include lib/limited_units
-- include lib/new_reply
-- include lib/answer
-- include lib/send_reply
-- include lib/close_book
-- include lib/is_id
-- include lib/is_winners_id
-- include lib/may_judge
-- include lib/read_turns
-- include lib/read_caps

local book = new_book()
expire_due(book, shard, keys, SWEEP_PER_CALL)
local deadline = shard.now + shard.ttl
local stamp = string.format('%013.0f', deadline)
local ids = cmsgpack.unpack(ids_blob)
check_batch(buyers, ids)
local channels, notes = {}, {}
local reply = new_reply()

local turns = shard.admission and read_turns(keys, buyers, shard.now)
local caps = not is_short and read_caps(shard, keys.caps, cap_keys_blob, n)

local well_formed, nothing = are_ids(buyers) and are_ids(ids), {} -- else each by itself

-- Why a new hold is not taken: an outcome code and the index of the line, or nil if it is.
local function refuse(i, buyer, basket, is_new)
  if closed or (turns and not turns.live[buyer]) then
    return closed or NOT_ADMITTED
  elseif basket.refusal then
    return basket.refusal, basket.refusal
  elseif is_new and shard_full(book, shard, keys.buyers) then
    return SHARD_FULL
  elseif not is_new and #holds_of(book, buyer) >= shard.holds_max then
    return TOO_MANY_HOLDS
  elseif caps and caps.is_used_up(i) then
    return KEY_LIMIT
  elseif is_new then
    return refuse_units(book, shard, keys, basket.lines, nothing, 0)
  end
  local per_sku, total = limited_units(book, shard, keys, buyer, basket.lines)
  return refuse_units(book, shard, keys, basket.lines, per_sku, total)
end

-- Takes a new hold. That of a new buyer is put down as the text it is going to be: in a batch of
-- which few buyers are known, the others cost half of what they would as lists of holds.
local function take(i, buyer, id, basket, is_new)
  touch(book, buyer)
  if is_new then
    book.records[buyer] = '1h' .. stamp .. id .. (basket.text == '' and '' or '|' .. basket.text)
  else
    table.insert(holds_of(book, buyer),
      { state = 'h', stamp = stamp, id = id, basket = basket.text })
  end
  move_units(book, keys.stock, basket.lines, 'a', 'h')
  note_event(book, 'h', buyer, id, basket.text)
  shard.due = math.min(shard.due or deadline, deadline)
  if turns then
    turns.take(buyer, basket.lines)
  end
  if caps then
    caps.count(i)
  end
  if marks then
    channels[#channels + 1] = marks[1][i]
    notes[#notes + 1] = marks[2][i]
  end
end

for i = 1, n do
  if (i > book.read or book.work >= book.most)
    and not may_judge(book, keys, buyers, i, reply, records, most) then
    break
  end
  local buyer, id, basket = buyers[i], ids[i], baskets[1]
  if which then
    basket = baskets[which[i]]
  end
  if not (well_formed or (is_id(buyer) and is_id(id))) or is_winners_id(id) or not basket
    or basket.refusal == MALFORMED then
    answer(reply, i, MALFORMED)
  else
    local is_new, hold = book.records[buyer] == false and not book.is_touched[buyer], nil
    if not is_new then
      expire_buyer(book, shard, keys, buyer)
      hold = find_hold(book, buyer, id)
    end
    if hold and hold.state == 't' then
      answer(reply, i, RELEASED, hold)
    elseif hold and hold.basket == basket.text then
      answer(reply, i, HELD, hold, true)
    elseif hold then
      answer(reply, i, CONFLICT, hold)
    else
      local code, index = refuse(i, buyer, basket, is_new)
      if not code then
        take(i, buyer, id, basket, is_new)
      elseif turns and (code == SOLD_OUT or code == SOLD_OUT_MAY_RETURN) then
        turns.want(buyer, basket.lines, book.rows)
      end
      answer(reply, i, code or HELD, nil, false, basket.names and basket.names[index])
    end
  end
end

local fields = #channels > 0 and { 'hm', cmsgpack.pack({ channels, notes }) } or {}
if turns then
  turns.write(book)
end
if caps then
  caps.write(book)
end
close_book(book, shard, keys, fields)
return send_reply(shard, reply)
