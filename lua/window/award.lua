#!lua
-- Gives winners of a cue their holds, out of what it set aside: a batch, in the order of the draw.
-- Nobody is judged before the time that the result is announced for, because a hold shows. Who has
-- been judged once is never judged again, so any process may go over the list any number of times.
-- `drawn` are awarded exactly what they drew, before the result is revealed. Once all of them have
-- been judged the `next` in order get what others left, cut down to the least they wanted: what
-- those drew who were refused, before the reveal, and what falls free, until the reserve ends. A
-- verdict, as `awarded` keeps it, is a code, "d" or "n" for the phase, and of a hold the 13 digits
-- of its deadline and the basket's text. The first drawn are awarded together with the seeds they
-- were drawn by: from then on nobody is drawn by others, whatever a public source says later, and
-- who goes on needs neither the source nor the draw key.
--
-- KEYS  sale skus stock buyers ledger deadlines cue secrets entries awarded caps
-- ARGV  caller_ms   the caller's clock, for the check of the server's
--       phase       "drawn" or "next"
--       buyers      msgpack: array of buyers, each once
--       baskets     msgpack: {{{index, qty, least, …}, …}, {which, …}}
--       freed       for "next": how often places had fallen free when the first were asked
--       drawn       how many were drawn
--       seed        the server's, in hexadecimal
--       entropy     "" or the public seed's value, in hexadecimal
-- REPLY as of every batch; an operation's code is what was decided of it, now or before. SOLD_OUT
--       is not remembered: more may fall free. CONFLICT: the hold id is in use. KEY_LIMIT: the
--       entry's key has had key_holds_max holds. From CLOCK_JUMP on a code is for the whole batch:
--       NOT_CLOSED, also before the announced time; FROZEN, the next have to wait; SETTLED, the
--       reserve has ended; TRY_AGAIN, places have fallen free since: ask those who come first
--       first; or others were drawn by other seeds before: draw by those (window/freeze tells them)
-- CODES H HELD, S SOLD_OUT, L LIMIT_REACHED, M TOO_MANY_HOLDS, + KEY_LIMIT, Q CONFLICT,
--       J CLOCK_JUMP, j NOT_CLOSED, f FROZEN, g SETTLED, x VOID, m CUE_UNKNOWN, u SALE_UNKNOWN,
--       T TRY_AGAIN, p PURGED, ! MALFORMED

local keys = {
  sale = KEYS[1], skus = KEYS[2], stock = KEYS[3], buyers = KEYS[4], ledger = KEYS[5],
  deadlines = KEYS[6], cue = KEYS[7], secrets = KEYS[8], entries = KEYS[9], awarded = KEYS[10],
  caps = KEYS[11],
}
local caller_ms, phase, buyers_blob, baskets_blob, freed, drawn, seed, entropy = unpack(ARGV)

-- include lib/load_shard
-- include lib/load_cue
-- include lib/check_batch
-- include lib/new_book
-- include lib/expire_due
-- include lib/expire_buyer
-- include lib/limited_units
-- include lib/may_judge
-- include lib/refuse_units
-- include lib/counter_of
-- include lib/set_aside
-- include lib/read_caps
-- include lib/format_basket
-- include lib/new_reply
-- include lib/answer
-- include lib/send_reply
-- include lib/also_write
-- include lib/close_book

local HELD, SOLD_OUT, CONFLICT, CLOCK_JUMP, MALFORMED = 'H', 'S', 'Q', 'J', '!' -- outcomes
local TOO_MANY_HOLDS, KEY_LIMIT = 'M', '+' -- outcomes
local NOT_CLOSED, FROZEN, SETTLED, VOID = 'j', 'f', 'g', 'x' -- outcomes
local TRY_AGAIN = 'T' -- outcomes

local shard, refusal, time = load_shard(keys.sale, caller_ms)
if not shard then
  return { 0, time, 0, refusal, '' }
end
local epoch = tonumber(shard.epoch)
local cue, unknown = load_cue(keys.cue)
if not cue then
  return { epoch, shard.now, 0, unknown, '' }
end
local buyers, request = cmsgpack.unpack(buyers_blob), cmsgpack.unpack(baskets_blob)
local baskets, which = request[1], request[2]
local n = check_batch(buyers, which)
local before = redis.call('HMGET', keys.awarded, unpack(buyers))
local new = 0
for i = 1, n do
  new = before[i] and new or new + 1
end

local book = new_book()
if new > 0 and not shard.jumped then
  expire_due(book, shard, keys, 128)
end
local digest = redis.call('HGET', keys.cue, 'digest')
local seeds = redis.call('HMGET', keys.secrets, 'server_seed', 'entropy')
local code
if cue.state == 'void' then
  code = VOID
elseif cue.state == 'open' or not digest then
  code = NOT_CLOSED
elseif phase ~= 'drawn' and phase ~= 'next' then
  code = MALFORMED
elseif seeds[1] and (seeds[1] ~= seed or seeds[2] ~= entropy) then
  code = TRY_AGAIN
elseif cue.state == 'frozen' and shard.latest < cue.reveals then
  code = NOT_CLOSED
elseif shard.jumped and (new > 0 or cue.state == 'frozen') then
  code = CLOCK_JUMP
elseif new > 0 and shard.now < cue.awards then
  code = FROZEN
elseif new > 0 and phase == 'next' and cue.state == 'frozen'
  and redis.call('HLEN', keys.awarded) < tonumber(drawn) then
  code = FROZEN
elseif new > 0 and (book.closed_cues[cue.id] or (phase == 'drawn' and cue.state ~= 'frozen')
  or redis.call('HEXISTS', keys.stock, 'x:' .. cue.id) == 0) then
  code = SETTLED
elseif new > 0 and phase == 'next' and tonumber(freed) ~= tonumber(book.parts['y:' .. cue.id]
  or redis.call('HGET', keys.stock, 'y:' .. cue.id) or 0) then
  code = TRY_AGAIN
end
if code then
  close_book(book, shard, keys, {})
  return { epoch, shard.now, 0, code, '' }
end

local hold_id, deadline = 'cue~' .. cue.id, shard.now + shard.ttl
local stamp = string.format('%013.0f', deadline)

-- The keys that the entries were made with, against one who enters under many names.
local caps = false
if new > 0 and shard.key_holds_max then
  local cap_keys = redis.call('HMGET', keys.entries, unpack(buyers))
  for i = 1, n do
    cap_keys[i] = string.match(cap_keys[i] or '', '#(.*)$') or ''
  end
  caps = read_caps(shard, keys.caps, cmsgpack.pack(cap_keys), n)
end

local function left(index)
  local field = index .. 'x:' .. cue.id
  return book.parts[field] or counter_of(redis.call('HGET', keys.stock, field), field)
end

-- What of a wish can be had now: lines {index, qty, …}, or nil.
local function cut_down(wish)
  local lines = {}
  for k = 1, #wish, 3 do
    local qty = math.min(wish[k + 1], left(wish[k]))
    if qty < wish[k + 2] then
      return nil
    end
    lines[#lines + 1], lines[#lines + 2] = wish[k], qty
  end
  return lines
end

local function move_aside(lines, sign)
  for k = 1, #lines, 2 do
    set_aside(book, keys.stock, cue.id, lines[k], sign * lines[k + 1])
  end
end

-- Judges one winner: an outcome code, and the basket's text if it is HELD.
local function award(i, buyer, wish)
  expire_buyer(book, shard, keys, buyer)
  local lines = cut_down(wish)
  if not lines then -- first of all: what is said of somebody for ever must not depend on batches
    return SOLD_OUT
  elseif find_hold(book, buyer, hold_id) then
    return CONFLICT
  end
  local holds = holds_of(book, buyer)
  if #holds >= shard.holds_max then
    return TOO_MANY_HOLDS
  elseif caps and caps.is_used_up(i) then
    return KEY_LIMIT
  end
  move_aside(lines, -1)
  local per_sku, total = limited_units(book, shard, keys, buyer, lines)
  local refused = refuse_units(book, shard, keys, lines, per_sku, total)
  if refused then
    move_aside(lines, 1)
    return refused
  end
  local text = format_basket(lines)
  touch(book, buyer)
  table.insert(holds, { state = 'h', stamp = stamp, id = hold_id, basket = text, cue = cue.id })
  move_units(book, keys.stock, lines, 'a', 'h')
  note_event(book, 'h', buyer, hold_id, text)
  if caps then
    caps.count(i)
  end
  shard.due = math.min(shard.due or deadline, deadline)
  return HELD, text
end

local reply, verdicts = new_reply(), {}
for i = 1, n do
  if (i > book.read or book.work >= book.most)
    and not may_judge(book, keys, buyers, i, reply) then
    break
  end
  local buyer, wish = buyers[i], baskets[which and which[i] or 1]
  local verdict = before[i] or verdicts[buyer]
  if not verdict then
    local given, text = award(i, buyer, wish)
    verdict = given .. string.sub(phase, 1, 1)
    if given == HELD then
      verdict = verdict .. stamp .. text
    end
    verdicts[buyer] = verdict
    answer(reply, i, given)
    if given == SOLD_OUT then
      verdicts[buyer] = nil -- more may fall free
    end
  else
    answer(reply, i, string.sub(verdict, 1, 1))
    local details = reply.details
    details[#details + 1] = i
    details[#details + 1] = ''
    details[#details + 1] = tonumber(string.sub(verdict, 3, 15)) or 0
    details[#details + 1] = 1
  end
end
local fields = {}
for buyer, verdict in pairs(verdicts) do
  fields[#fields + 1] = buyer
  fields[#fields + 1] = verdict
end
if fields[1] then
  local judged = redis.call('HLEN', keys.awarded) + #fields / 2
  also_write(book, 'HSET', keys.secrets, { 'server_seed', seed, 'entropy', entropy })
  also_write(book, 'HSET', keys.awarded, fields)
  also_write(book, 'HSET', keys.cue, { 'judged', judged, 'drawn', drawn })
end
if caps then
  caps.write(book)
end
close_book(book, shard, keys, book.events.h and { 'hw', cue.id } or {})
return send_reply(shard, reply)
