#!lua
-- Enters buyers into a cue's draw: a batch. What counts of a buyer is the smallest of all entries
-- (lib/first_of), so order, repetition and batching of taps change nothing.
--
-- KEYS  sale buyers cue entries best
-- ARGV  caller_ms   the caller's clock, for the check of the server's
--       buyers      msgpack: array of buyers
--       positions   msgpack: where on the media timeline each of them tapped, ms
--       baskets     msgpack: {{{sku, qty, least, …}, …}, {which, …} or nothing}
--       ranks       "" or, for a cue that keeps the best only, 32 bytes for each of them, by which
--                   a window's entries are ordered (packed bytes: the server reads no msgpack bin)
--       cap_keys    "" or, where the sale counts holds by keys, msgpack: array of keys
-- REPLY as of every batch; a detail's second value is "" or the entry that counts, without its key:
--       left out where that is in the first window and has the basket of this tap
-- CODES G ENTERED, e TOO_EARLY, y TOO_LATE, a AHEAD_OF_LIVE, L LIMIT_REACHED, U SKU_UNKNOWN,
--       S SOLD_OUT, q ENTRIES_FULL, P PAUSED, Z ENDED, J CLOCK_JUMP, x VOID, m CUE_UNKNOWN,
--       u SALE_UNKNOWN, p PURGED, ! MALFORMED

local k_sale, k_buyers, k_cue, k_entries, k_best = unpack(KEYS)
local caller_ms, buyers_blob, positions_blob, baskets_blob, ranks_blob, cap_keys_blob =
  unpack(ARGV)

-- include lib/load_shard
-- include lib/load_cue
-- include lib/check_batch
-- include lib/entry_texts
-- include lib/are_ids
-- include lib/is_id
-- include lib/first_of
-- include lib/keep_best
-- include lib/write_table

local ENTERED, TOO_EARLY, TOO_LATE, AHEAD_OF_LIVE = 'G', 'e', 'y', 'a' -- outcomes
local ENTRIES_FULL, PAUSED, ENDED, CLOCK_JUMP = 'q', 'P', 'Z', 'J' -- outcomes
local VOID, MALFORMED = 'x', '!' -- outcomes
local UNJUDGED = '.' -- as lib/may_judge
-- What all entries may take, ids, baskets and keys: so many bytes for each of entries_max.
local ENTRY_BYTES, ENTRIES_BYTES_LEAST = 128, 65536

local shard, refusal, time = load_shard(k_sale, caller_ms)
if not shard then
  return { 0, time, 0, refusal, '' }
end
local epoch = tonumber(shard.epoch)
local cue, unknown = load_cue(k_cue)
if not cue then
  return { epoch, shard.now, 0, unknown, '' }
end
local closed
if cue.state == 'void' then
  closed = VOID
elseif cue.state ~= 'open' or shard.now >= cue.closes then
  closed = TOO_LATE
elseif shard.state ~= 'running' then
  closed = shard.state == 'ended' and ENDED or PAUSED
elseif shard.jumped then
  closed = CLOCK_JUMP
end
if closed then
  return { epoch, shard.now, 0, closed, '' }
end
local buyers, positions = cmsgpack.unpack(buyers_blob), cmsgpack.unpack(positions_blob)
local request = cmsgpack.unpack(baskets_blob)
local baskets, which = entry_texts(cue, request[1]), request[2]
local caps = shard.key_holds_max and not cue.kept
local cap_keys = caps and cap_keys_blob ~= '' and cmsgpack.unpack(cap_keys_blob) or nil
local n = check_batch(buyers, positions, which, cap_keys)
if not are_ids(buyers) or not baskets[1] or #ranks_blob ~= (cue.kept and 32 * n or 0) then
  return { epoch, shard.now, 0, MALFORMED, '' }
end
-- Since the cue: what is live; all that is granted of a lag; and the end of the last window.
local live = shard.now - cue.at
local credited, last = live - cue.credit, cue.window * cue.windows
local read = redis.call('HMGET', k_entries, unpack(buyers))

-- The window of a tap, from 0, or nil and why it does not count; and whether its position was cut
-- down: a viewer whose stream is on its way for less time than that of the cue's clock is ahead of
-- what that believes to be live, and gains nothing by it, since the cut never goes below the cue's.
local function window_of(position)
  if type(position) ~= 'number' or position % 1 ~= 0 then
    return nil, MALFORMED
  end
  local shown, bound = position - cue.position, math.max(live, 0)
  local elapsed = math.max(math.min(shown, bound), credited)
  if live < -cue.ahead then
    return nil, TOO_EARLY
  elseif shown > live + cue.ahead then
    return nil, AHEAD_OF_LIVE
  elseif elapsed < 0 then
    return nil, TOO_EARLY
  elseif elapsed >= last then
    return nil, TOO_LATE
  end
  return math.floor(elapsed / cue.window), nil, shown > bound
end

local codes, details, texts, ranks, is_cut = {}, {}, {}, {}, {}
local all = n
for i = 1, n do
  local number = which and which[i] or 1
  if i > 1 and not baskets[number] and request[1][number] then -- not read: lib/entry_texts
    n = i - 1
    break
  end
  local basket = baskets[which and which[i] or 1]
  local window, code, cut = window_of(positions[i])
  if not basket or (caps and not (cap_keys and is_id(cap_keys[i]))) then
    code = MALFORMED
  end
  code = code or basket.refusal
  if not code then
    texts[i] = basket.text == '' and window .. '' or window .. '|' .. basket.text
    texts[i] = caps and texts[i] .. '#' .. cap_keys[i] or texts[i]
  end
  codes[i], is_cut[i] = code or ENTERED, cut
  ranks[i] = string.sub(ranks_blob, 32 * i - 31, 32 * i)
end

local changed, order, is_changed = {}, {}, {}
local function put(buyer, text)
  if not is_changed[buyer] then
    is_changed[buyer] = true
    order[#order + 1] = buyer
  end
  changed[buyer] = text
end

-- Tells which entry counts, `text` or another, unless it is what the caller takes it for.
local function tell(i, counts, is_replayed)
  local d, basket = #details, string.match(texts[i], '^%d+([^#]*)')
  local told = string.match(counts, '^[^#]*')
  told = told == '0' .. basket and '' or told
  if is_replayed or told ~= '' then
    details[d + 1], details[d + 2], details[d + 3], details[d + 4] = i, told, 0,
      is_replayed and 1 or 0
  end
end

local count, kept = redis.call('HLEN', k_entries), redis.call('HMGET', k_cue, 'bytes', 'cut')
local is_first, new = count == 0, 0
local bytes = tonumber(kept[1] or 0)
local bytes_max = math.max(ENTRIES_BYTES_LEAST, ENTRY_BYTES * cue.entries_max)
if not cue.kept then
  for i = 1, n do
    local buyer, text = buyers[i], texts[i]
    if text then
      local before = changed[buyer] or read[i]
      local counts = before and first_of(before, text) or text
      local grown = #counts - (before and #before or -#buyer)
      if counts ~= before and (bytes + grown > bytes_max
        or (not before and count + new >= cue.entries_max)) then
        codes[i] = ENTRIES_FULL -- what counted before counts
      else
        tell(i, counts, before and true or false)
        if counts ~= before then
          new, bytes = before and new or new + 1, bytes + grown
          put(buyer, counts)
        end
      end
    end
  end
else
  n = keep_best(shard, cue, k_buyers, k_entries, k_best, {
    n = n, buyers = buyers, ranks = ranks, texts = texts, codes = codes,
  })
end
local values = {}
for k, buyer in ipairs(order) do
  values[2 * k - 1], values[2 * k] = buyer, changed[buyer]
end
if values[1] then
  write_table(k_entries, is_first, unpack(values))
end
local entered, cuts = cue.kept and redis.call('HLEN', k_entries) or count + new, 0
for i = 1, n do
  cuts = cuts + (is_cut[i] and codes[i] == ENTERED and 1 or 0)
end
if values[1] or entered ~= count then
  redis.call('HSET', k_cue, 'entered', entered, 'bytes', bytes)
end
if cuts > 0 then
  redis.call('HSET', k_cue, 'cut', tonumber(kept[2] or 0) + cuts)
end
redis.call('HSET', k_sale, 'now', shard.now)
local same = n == all
for i = 2, n do
  same = same and codes[i] == codes[1]
end
local told = same and codes[1] or table.concat(codes, '', 1, n) .. string.rep(UNJUDGED, all - n)
return {
  epoch, shard.now, 0, told, details[1] and cmsgpack.pack(details) or '',
}
