#!lua
-- Takes paid lines back into stock, each refund once by its op_id: a batch.
--
-- KEYS  sale skus stock buyers ledger deadlines
-- ARGV  caller_ms   the caller's clock, for the check of the server's
--       buyers      msgpack: array of buyers
--       ids         msgpack: array of hold ids
--       baskets     msgpack: {{{sku, qty, …}, …}, {which, …} or nothing}
--       op_ids      msgpack: array of op_ids
-- CODES F REFUNDED, ? UNKNOWN_HOLD, O NOT_CONFIRMED, I NOT_IN_HOLD, V TOO_MANY_REFUNDS,
--       Q CONFLICT, u SALE_UNKNOWN, p PURGED, ! MALFORMED

local keys = {
  sale = KEYS[1], skus = KEYS[2], stock = KEYS[3], buyers = KEYS[4], ledger = KEYS[5],
  deadlines = KEYS[6],
}
local caller_ms, buyers_blob, ids_blob, baskets_blob, ops_blob = unpack(ARGV)

-- include lib/load_shard
-- include lib/check_batch
-- include lib/resolve_baskets
-- include lib/new_book
-- include lib/expire_due
-- include lib/expire_buyer
-- include lib/minus
-- include lib/sold_lines
-- include lib/new_reply
-- include lib/answer
-- include lib/send_reply
-- include lib/close_book
-- include lib/is_id
-- include lib/may_judge

local REFUNDED, UNKNOWN_HOLD, NOT_CONFIRMED, CONFLICT = 'F', '?', 'O', 'Q' -- outcomes
local NOT_IN_HOLD, TOO_MANY_REFUNDS, MALFORMED = 'I', 'V', '!' -- outcomes
local SWEEP_PER_CALL, REFUNDS_MAX, RECORD_MAX = 128, 16, 32768

local shard, refusal, time = load_shard(keys.sale, caller_ms)
if not shard then
  return { 0, time, 0, refusal, '' }
end
local baskets, which, most = resolve_baskets(keys.skus, cmsgpack.unpack(baskets_blob))
local buyers, ids = cmsgpack.unpack(buyers_blob), cmsgpack.unpack(ids_blob)
local op_ids = cmsgpack.unpack(ops_blob)
local n = check_batch(buyers, ids, op_ids, which)
local book = new_book()
expire_due(book, shard, keys, SWEEP_PER_CALL)
local reply = new_reply()

local function refund(buyer, hold, basket, op_id)
  if hold.state ~= 'c' and hold.state ~= 'f' then
    return NOT_CONFIRMED
  end
  local refunds = hold.refunds or {}
  for k = 1, #refunds, 2 do
    if refunds[k] == op_id then
      local same = refunds[k + 1] == basket.text
      return same and REFUNDED or CONFLICT, same
    end
  end
  local rest = not basket.refusal and minus(sold_lines(hold), basket.lines)
  if not rest then
    return NOT_IN_HOLD
  end
  if #refunds >= 2 * REFUNDS_MAX or (refunds[1] and #book.records[buyer] > RECORD_MAX) then
    return TOO_MANY_REFUNDS
  end
  refunds[#refunds + 1] = op_id
  refunds[#refunds + 1] = basket.text
  hold.refunds = refunds
  if #rest == 0 then
    hold.state = 'f'
  end
  move_units(book, keys.stock, basket.lines, 's', 'a')
  note_event(book, 'f', buyer, hold.id, basket.text, op_id)
  touch(book, buyer)
  return REFUNDED
end

for i = 1, n do
  if (i > book.read or book.work >= book.most)
    and not may_judge(book, keys, buyers, i, reply, nil, most) then
    break
  end
  local buyer, id, basket = buyers[i], ids[i], baskets[1]
  if which then
    basket = baskets[which[i]]
  end
  if not is_id(buyer) or not is_id(id) or not is_id(op_ids[i]) or not basket
    or basket.refusal == MALFORMED then
    answer(reply, i, MALFORMED)
  else
    expire_buyer(book, shard, keys, buyer)
    local hold = find_hold(book, buyer, id)
    if hold then
      local code, replayed = refund(buyer, hold, basket, op_ids[i])
      answer(reply, i, code, hold, replayed)
    else
      answer(reply, i, UNKNOWN_HOLD)
    end
  end
end

close_book(book, shard, keys, {})
return send_reply(shard, reply)
