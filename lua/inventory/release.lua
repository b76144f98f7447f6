#!lua
-- Gives holds up; an id that is not known leaves a tombstone, so that the delayed hold it
-- belongs to cannot take stock afterwards: a batch. The id of a cue's winner is UNKNOWN_HOLD before
-- the award: a tombstone would stand in its way.
--
-- KEYS  sale skus stock buyers ledger deadlines
-- ARGV  caller_ms   the caller's clock, for the check of the server's
--       buyers      msgpack: array of buyers
--       ids         msgpack: array of hold ids
-- CODES R RELEASED, A ALREADY_CONFIRMED, E EXPIRED, ? UNKNOWN_HOLD, * MEMORY_FULL,
--       u SALE_UNKNOWN, p PURGED, ! MALFORMED
-- FULL  all but the tombstone of an id that is not known

local keys = {
  sale = KEYS[1], skus = KEYS[2], stock = KEYS[3], buyers = KEYS[4], ledger = KEYS[5],
  deadlines = KEYS[6],
}
local caller_ms, buyers_blob, ids_blob = unpack(ARGV)
local is_full = false -- true in the twin for a full memory, see flashsale.scripts

-- include lib/load_shard
-- include lib/check_batch
-- include lib/settle_plain

local RELEASED, ALREADY_CONFIRMED, EXPIRED, MALFORMED = 'R', 'A', 'E', '!' -- outcomes
local UNKNOWN_HOLD, MEMORY_FULL = '?', '*' -- outcomes
local SWEEP_PER_CALL = 128

local shard, refusal, time = load_shard(keys.sale, caller_ms)
if not shard then
  return { 0, time, 0, refusal, '' }
end
local buyers, ids = cmsgpack.unpack(buyers_blob), cmsgpack.unpack(ids_blob)
local n = check_batch(buyers, ids)
local blobs, records = { buyers_blob, ids_blob }, nil
local pending = shard.due and shard.now >= shard.due
if not pending then
  local settled
  settled, records = settle_plain(shard, keys, blobs, buyers, ids, 'r', 'a')
  if settled then
    return { tonumber(shard.epoch), shard.now, 0, RELEASED, '' }
  end
end

-- From here on helpers are made only when they are needed: making them costs as much as a call.

-- include lib/new_book
-- include lib/expire_due
-- include lib/expire_buyer
-- include lib/give_back
-- include lib/new_reply
-- include lib/answer
-- include lib/send_reply
-- include lib/close_book
-- include lib/is_id
-- include lib/is_winners_id
-- include lib/may_judge

local book = new_book()
expire_due(book, shard, keys, SWEEP_PER_CALL)
pending = shard.due and shard.now >= shard.due
if shard.swept and not pending and is_clean(book)
  and settle_plain(shard, keys, blobs, buyers, ids, 'r', 'a') then
  close_book(book, shard, keys, {})
  return { tonumber(shard.epoch), shard.now, 0, RELEASED, '' }
end
local reply = new_reply()

local function release(buyer, hold)
  if hold.state == 't' or hold.state == 'r' then
    return RELEASED, true
  end
  if hold.state == 'c' or hold.state == 'f' then
    return ALREADY_CONFIRMED
  end
  if hold.state == 'e' then
    return EXPIRED
  end
  hold.state = 'r'
  if hold.moved then
    book.deadlines[buyer .. '|' .. hold.id] = false
  end
  give_back(book, keys, hold, parse_basket(hold.basket))
  note_event(book, 'r', buyer, hold.id, hold.basket)
  touch(book, buyer)
  return RELEASED
end

-- A full record or shard takes no tombstone and needs none: the hold will find no room either. (The
-- seats kept for winners are no reason: they are given back, and then it would.)
local function bury(buyer, id)
  local holds = holds_of(book, buyer)
  book.buyers = book.buyers or redis.call('HLEN', keys.buyers)
  local full = #holds == 0 and book.buyers + book.new_buyers >= shard.buyers_max
  if #holds < shard.holds_max and not full then
    touch(book, buyer)
    table.insert(holds, { state = 't', stamp = '0000000000000', id = id, basket = '' })
    note_event(book, 't', buyer, id, '')
  end
end

for i = 1, n do
  if (i > book.read or book.work >= book.most)
    and not may_judge(book, keys, buyers, i, reply, records) then
    break
  end
  local buyer, id = buyers[i], ids[i]
  expire_buyer(book, shard, keys, buyer)
  if not is_id(buyer) or not is_id(id) then
    answer(reply, i, MALFORMED)
  else
    local hold = find_hold(book, buyer, id)
    if hold then
      local code, replayed = release(buyer, hold)
      answer(reply, i, code, hold, replayed)
    elseif is_winners_id(id) then
      answer(reply, i, UNKNOWN_HOLD)
    elseif is_full then
      answer(reply, i, MEMORY_FULL)
    else
      bury(buyer, id)
      answer(reply, i, RELEASED)
    end
  end
end

close_book(book, shard, keys, {})
return send_reply(shard, reply)
