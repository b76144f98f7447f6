#!lua
-- Applies a torn ledger entry, the one behind the sequence that the sale stores: first to the
-- records of its buyers, some of them a call, then to the counters and all else at once, which ends
-- it. It goes forward only, takes what happened from the entry itself, and may be called any number
-- of times. Between its calls nothing changes: no script writes to a ledger that is ahead of the
-- sale.
--
-- KEYS  sale skus stock buyers ledger deadlines restocks cues cue awarded
-- ARGV  caller_ms   the caller's clock, for the check of the server's
--       sequence    of the torn entry
--       verb        "check" or "apply" (to buyers), or "finish"
--       from        for buyers: the first of the entry's buyers, from 1
--       values      for "finish": msgpack: {{field of the stock hash, units, …}, {field to remove,
--                   …}, {cue whose reserve is over, …}, {} or what set-aside is given back:
--                   {{cue that was never opened, index, -units, …}, perhaps {the void one whose
--                   stock it was, index, units, …}}, units set aside in all}
-- REPLY {epoch, now, code ("" or u, p, Q: it is not, or no longer, the torn entry), next of its
--       buyers or 0, {buyer, hold id, …}: of whom it cannot be told}
-- CODES Q CONFLICT, u SALE_UNKNOWN, p PURGED, ! MALFORMED

local keys = {
  sale = KEYS[1], skus = KEYS[2], stock = KEYS[3], buyers = KEYS[4], ledger = KEYS[5],
  deadlines = KEYS[6], restocks = KEYS[7], cues = KEYS[8], cue = KEYS[9], awarded = KEYS[10],
}
local caller_ms, sequence_text, verb, from_text, values_blob = unpack(ARGV)

-- include lib/load_shard
-- include lib/events_of_entry
-- include lib/format_record
-- include lib/in_pieces
-- include lib/redo

local CONFLICT, MALFORMED = 'Q', '!' -- outcomes
local shard, refusal, time = load_shard(keys.sale, caller_ms)
if not shard then
  return { 0, time, refusal, 0, {} }
end
local epoch = tonumber(shard.epoch)
local sequence, from = tonumber(sequence_text), tonumber(from_text)
if not sequence or not from or (verb ~= 'check' and verb ~= 'apply' and verb ~= 'finish') then
  return { epoch, shard.now, MALFORMED, 0, {} }
end
local entries = redis.call('XRANGE', keys.ledger, '(' .. epoch .. '-' .. shard.sequence, '+',
  'COUNT', 2)
if #entries ~= 1 or entries[1][1] ~= epoch .. '-' .. sequence or sequence ~= shard.sequence + 1 then
  return { epoch, shard.now, CONFLICT, 0, {} }
end
local value = {}
for k = 1, #entries[1][2], 2 do
  value[entries[1][2][k]] = entries[1][2][k + 1]
end
redis.call('ZCARD', keys.deadlines) -- proves the types before the first write, as do those below
redis.call('HLEN', keys.stock)
redis.call('HLEN', keys.restocks)
redis.call('HLEN', keys.cues)

if verb == 'finish' then
  local values = cmsgpack.unpack(values_blob)
  local members, sale = {}, {}
  for _, cue in ipairs(values[3]) do
    members[#members + 1] = '|' .. cue
  end
  if value.s then
    sale[1], sale[2] = 'state', value.s
  end
  local restock = value.k and cmsgpack.unpack(value.k)
  local body = restock and cmsgpack.pack(restock[2])
  local freed = {} -- a place may have fallen free: who asks for the next begins again
  for _, move in ipairs(value.v and cmsgpack.unpack(value.v) or {}) do
    local field = 'y:' .. move[1]
    if redis.call('HEXISTS', keys.stock, 'x:' .. move[1]) == 1 then
      freed[#freed + 1] = field
      freed[#freed + 1] = (tonumber(redis.call('HGET', keys.stock, field)) or 0) + 1
    end
  end
  local void, fields = value.z and cmsgpack.unpack(value.z), {}
  if void then
    redis.call('HLEN', keys.cue)
    fields = { 'state', 'void', 'reason', void[2], 'voided_at', value.t, 'frozen_at', void[3] }
  end
  local now = math.max(shard.now, tonumber(value.t))
  local last, given, never = sequence, values[4], {}
  if given[1] then
    never[1] = given[1][1]
  end
  if given[1] then -- of a cue that was never opened: taken back, in an entry of its own
    last = sequence + 1
    redis.call('XADD', keys.ledger, epoch .. '-' .. last, 't', now, 'v', cmsgpack.pack(given))
  end
  in_pieces('HDEL', keys.cues, never)
  in_pieces('ZREM', keys.deadlines, members)
  in_pieces('HSET', keys.stock, freed)
  in_pieces('HSET', keys.stock, values[1])
  in_pieces('HDEL', keys.stock, values[2])
  if restock then
    redis.call('HSET', keys.restocks, restock[1], body)
  end
  in_pieces('HSET', keys.cue, fields)
  in_pieces('HSET', keys.sale, sale)
  -- What is due is not in the entry: the next call looks.
  redis.call('HSET', keys.sale, 'sequence', last, 'now', now, 'due', value.t,
    'seats', values[5])
  return { epoch, shard.now, '', 0, {} }
end

local stamp = string.format('%013.0f', value.t + shard.ttl)
local buyers, events = events_of_entry(value)
local upto = math.min(from + 7, #buyers) -- each may have a record of 64 holds
local some = {}
for b = from, upto do
  some[#some + 1] = buyers[b]
end
local cue = redis.call('HMGET', keys.cue, 'state', 'drawn')
local judged = redis.call('HLEN', keys.awarded)
local phase = cue[1] == 'frozen' and judged < (tonumber(cue[2]) or judged + 1) and 'd' or 'n'
local records, sets, removals, verdicts, unsure = {}, {}, {}, {}, {}
local found = some[1] and redis.call('HMGET', keys.buyers, unpack(some)) or {}
for i, buyer in ipairs(some) do
  local holds, told = redo(found[i], events[buyer], stamp, value.hw)
  if not holds then
    unsure[#unsure + 1], unsure[#unsure + 2] = buyer, told
  else
    if told == false then
      records[#records + 1], records[#records + 2] = buyer, format_record(holds)
    end
    for _, event in ipairs(events[buyer]) do
      for _, hold in ipairs(holds) do
        local member = buyer .. '|' .. hold.id
        if hold.id == event.id and hold.state == 'h' and hold.moved then
          sets[#sets + 1], sets[#sets + 2] = hold.stamp, member
        elseif hold.id == event.id then
          removals[#removals + 1] = member
        end
        if hold.id == event.id and event.letter == 'h' and value.hw then
          verdicts[#verdicts + 1] = buyer
          verdicts[#verdicts + 1] = 'H' .. phase .. hold.stamp .. hold.basket
        end
      end
    end
  end
end
if verb == 'apply' and not unsure[1] then
  in_pieces('ZADD', keys.deadlines, sets)
  in_pieces('ZREM', keys.deadlines, removals)
  in_pieces('HSET', keys.buyers, records)
  in_pieces('HSET', keys.awarded, verdicts)
  if verdicts[1] then
    redis.call('HSET', keys.cue, 'judged', redis.call('HLEN', keys.awarded))
  end
end
return { epoch, shard.now, '', upto < #buyers and upto + 1 or 0, unsure }
