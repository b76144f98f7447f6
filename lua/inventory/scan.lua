#!lua flags=no-writes
-- Shows a page of all buyers with their holds, as stored: a due hold is still held. A buyer may
-- come twice and none that was there throughout is left out (HSCAN's promise). A page is bounded by
-- what there is to show too: buyers it has no room for are named in its cursor, and come next.
--
-- KEYS  sale stock buyers
-- ARGV  caller_ms   the caller's clock, for the check of the server's
--       cursor      "0" to begin, then the one of the last reply, until it is "0" again
--       count       about how many buyers
-- REPLY {epoch, now, sequence, code ("" or u, p), cursor, msgpack: {buyer, holds, …},
--        false for the holds of a record that cannot be read}
-- CODES u SALE_UNKNOWN, p PURGED

local k_sale, k_stock, k_buyers = unpack(KEYS)
local caller_ms, cursor, count = unpack(ARGV)

-- include lib/load_shard
-- include lib/show_record

local SHOW_MAX, STEP = 65536, 32
local shard, refusal, time = load_shard(k_sale, caller_ms)
if not shard then
  return { 0, time, 0, refusal, '0', '' }
end
local shown, names, work, full = {}, {}, 0, false
local at, bar, later = string.match(cursor, '^(%d+)(|?)(.*)$')
if not at or (bar == '') ~= (later == '') then
  error({ err = 'FLASHSALE_MALFORMED the cursor must be one that a page ended with, or 0' })
end

-- Shows one more buyer, if there is room: the first always has it. A record takes its bytes, 48 for
-- the buyer and each hold, and 6 for each line, of baskets and refunds; the page ends at the first
-- record that has no room.
local function show(buyer, record)
  if full then
    return false
  end
  local _, holds = string.gsub(record, ';', ';')
  local _, lines = string.gsub(record, ',', ',')
  local more = #record + 48 * (2 + holds) + 6 * lines
  full = work > 0 and work + more > SHOW_MAX
  if full then
    return false
  end
  work = work + more
  local is_read, told = pcall(function()
    return show_record(record, -1, k_stock, names)
  end)
  if not is_read then -- a table is a script's own or a command's error; a record's is told of it
    if type(told) == 'table' and not string.find(told.err, 'FLASHSALE_FORMAT', 1, true) then
      error(told)
    end
    told = false
  end
  shown[#shown + 1], shown[#shown + 2] = buyer, told
  return true
end

local left = {}
for buyer in string.gmatch(later, '[^,]+') do
  local record = not full and redis.call('HGET', k_buyers, buyer)
  if full or (record and not show(buyer, record)) then
    left[#left + 1] = buyer
  end
end
if not full and (later == '' or at ~= '0') then
  repeat
    local page = redis.call('HSCAN', k_buyers, at, 'COUNT', math.min(STEP, tonumber(count)))
    at = page[1]
    for k = 1, #page[2], 2 do
      if not show(page[2][k], page[2][k + 1]) then
        left[#left + 1] = page[2][k]
      end
    end
  until at == '0' or full or #shown + 2 * #left >= 2 * tonumber(count)
end
if left[1] then
  at = at .. '|' .. table.concat(left, ',')
end
return { tonumber(shard.epoch), shard.now, shard.sequence, '', at, cmsgpack.pack(shown) }
