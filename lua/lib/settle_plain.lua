-- include lib/new_book
-- include lib/sku_row
-- Ends a whole batch of the commonest holds at once, or does nothing: each buyer once, with one
-- held hold of one unit of sku 0, whose record is "1h", 13 digits and the id. `state` is the new
-- state and the event's letter, `to` the counter that gains; `due` asks that all have fallen due.
-- It writes everything that must agree, so it is a step of its own: the caller has written
-- nothing yet, or only such steps. (Measured: a quarter of the cost of the exact loop.)
local function settle_plain(shard, keys, blobs, buyers, ids, state, to, due)
  local records = redis.call('HMGET', keys.buyers, unpack(buyers))
  local n, sub = #buyers, string.sub
  local now = string.format('%013.0f', shard.now)
  local fields, seen = {}, {}
  for i = 1, n do
    local record, buyer = records[i], buyers[i]
    if not record or sub(record, 16) ~= ids[i] or sub(record, 1, 2) ~= '1h' or seen[buyer]
      or (due and sub(record, 3, 15) > now) then
      return false
    end
    seen[buyer] = true
    fields[2 * i - 1] = buyer
    fields[2 * i] = '1' .. state .. sub(record, 3)
  end
  local row = sku_row(new_book(), keys.stock, 0)
  shard.sequence = shard.sequence + 1
  redis.call('XADD', keys.ledger, shard.epoch .. '-' .. shard.sequence, 't', shard.now,
    state .. 'b', blobs[1], state .. 'i', blobs[2])
  redis.call('HSET', keys.buyers, unpack(fields))
  redis.call('HSET', keys.stock, '0h', row.h - n, '0' .. to, row[to] + n)
  redis.call('HSET', keys.sale, 'sequence', shard.sequence, 'now', shard.now)
  return true
end
