#!lua
-- Sets the deadlines of holds later, once payment has begun: a batch. The deadline is
-- absolute, so doing it twice, or in another order, ends in the latest one.
--
-- KEYS  sale skus stock buyers ledger deadlines
-- ARGV  caller_ms   the caller's clock, for the check of the server's
--       buyers      msgpack: array of buyers
--       ids         msgpack: array of hold ids
--       wanted      msgpack: array of deadlines, milliseconds
-- CODES X EXTENDED, D DEADLINE_TOO_FAR, > TOO_MANY_EXTENDS, ? UNKNOWN_HOLD, A ALREADY_CONFIRMED,
--       R RELEASED, E EXPIRED, J CLOCK_JUMP, u SALE_UNKNOWN, p PURGED, ! MALFORMED

local keys = {
  sale = KEYS[1], skus = KEYS[2], stock = KEYS[3], buyers = KEYS[4], ledger = KEYS[5],
  deadlines = KEYS[6],
}
local caller_ms, buyers_blob, ids_blob, wanted_blob = unpack(ARGV)

-- include lib/load_shard
-- include lib/check_batch
-- include lib/new_book
-- include lib/expire_due
-- include lib/expire_buyer
-- include lib/new_reply
-- include lib/answer
-- include lib/send_reply
-- include lib/close_book
-- include lib/is_id
-- include lib/may_judge
-- include lib/is_doubtful

local EXTENDED, DEADLINE_TOO_FAR, UNKNOWN_HOLD, MALFORMED = 'X', 'D', '?', '!' -- outcomes
local ALREADY_CONFIRMED, RELEASED, EXPIRED, CLOCK_JUMP = 'A', 'R', 'E', 'J' -- outcomes
local TOO_MANY_EXTENDS = '>' -- outcomes
local SWEEP_PER_CALL, TIME_MAX, EXTENDS_MAX = 128, 9999999999999, 64

local shard, refusal, time = load_shard(keys.sale, caller_ms)
if not shard then
  return { 0, time, 0, refusal, '' }
end
local buyers, ids = cmsgpack.unpack(buyers_blob), cmsgpack.unpack(ids_blob)
local wanted = cmsgpack.unpack(wanted_blob)
local n = check_batch(buyers, ids, wanted)
local book = new_book()
expire_due(book, shard, keys, SWEEP_PER_CALL)
local reply = new_reply()

local function is_time(value)
  return type(value) == 'number' and value >= 0 and value <= TIME_MAX and value % 1 == 0
end

local function extend(buyer, hold, deadline)
  if hold.state == 'c' or hold.state == 'f' then
    return ALREADY_CONFIRMED
  end
  if hold.state == 't' or hold.state == 'r' then
    return RELEASED
  end
  if hold.state == 'e' then
    return EXPIRED
  end
  if is_doubtful(shard, tonumber(hold.stamp)) then
    return CLOCK_JUMP
  end
  if deadline <= tonumber(hold.stamp) then
    return EXTENDED, true
  end
  local original = hold.moved or hold.stamp
  if deadline > tonumber(original) + shard.extend_max or deadline > TIME_MAX then
    return DEADLINE_TOO_FAR
  end
  local extends = hold.moved and hold.extends or 0
  if extends >= EXTENDS_MAX then
    return TOO_MANY_EXTENDS
  end
  hold.moved, hold.extends = original, extends + 1
  hold.stamp = string.format('%013.0f', deadline)
  book.deadlines[buyer .. '|' .. hold.id] = deadline
  note_event(book, 'x', buyer, hold.id, hold.basket, deadline)
  touch(book, buyer)
  return EXTENDED
end

for i = 1, n do
  if (i > book.read or book.work >= book.most)
    and not may_judge(book, keys, buyers, i, reply) then
    break
  end
  local buyer, id = buyers[i], ids[i]
  if not is_id(buyer) or not is_id(id) or not is_time(wanted[i]) then
    answer(reply, i, MALFORMED)
  else
    expire_buyer(book, shard, keys, buyer)
    local hold = find_hold(book, buyer, id)
    if hold then
      local code, replayed = extend(buyer, hold, wanted[i])
      answer(reply, i, code, hold, replayed)
    else
      answer(reply, i, UNKNOWN_HOLD)
    end
  end
end

close_book(book, shard, keys, {})
return send_reply(shard, reply)
