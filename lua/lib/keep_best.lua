-- include lib/first_of
-- include lib/holds_of
-- include lib/is_smaller
-- include lib/units_of_buyer
-- Enters a batch into a cue that keeps only its best entries: the smallest by (window, rank), as
-- many as can ever win and the reserve. Limits are checked here, since whoever is kept takes the
-- place of another: of every tap, kept or hopeless or repeated, so that which taps count does not
-- depend on their order, and so that no answer tells who is still among the kept. `texts` are the
-- entries (nil: refused already). It writes as it goes, which harms nobody: what is kept does not
-- depend on the order. All keys' types are proven first. Returns how many of the `n` it has judged:
-- the rest would be too much for a call, see lib/may_judge.
local function keep_best(shard, cue, k_buyers, k_entries, k_best, batch)
  local LIMIT_REACHED = 'L' -- outcomes
  local buyers, ranks, texts, codes = batch.buyers, batch.ranks, batch.texts, batch.codes
  local WORK_MAX, READ_MAX = 6144, 64
  local n, work, records, judged = batch.n, 0, {}, 0
  local function read(from)
    local upto = math.min(from + READ_MAX - 1, n)
    for k, record in ipairs(redis.call('HMGET', k_buyers, unpack(buyers, from, upto))) do
      records[from + k - 1] = record
    end
  end
  read(1)
  local worst_window, worst_rank
  if redis.call('ZCARD', k_best) >= cue.kept then
    local worst = redis.call('ZRANGE', k_best, -1, -1, 'WITHSCORES')
    worst_rank, worst_window = string.sub(worst[1], 1, 32), tonumber(worst[2])
  end

  local function over_limit(buyer, record, text)
    local book = { records = { [buyer] = record }, holds = {}, units = {}, work = 0 }
    for _, hold in ipairs(holds_of(book, buyer)) do
      if hold.state == 'h' and tonumber(hold.stamp) <= shard.now then
        hold.state = 'e'
      end
    end
    local per_sku, total = units_of_buyer(book, buyer)
    work = work + book.work
    local index, limit = cue.lines[2], cue.lines[4]
    local qty = tonumber(string.match(text, '%*(%d+)') or 1)
    return (limit and (per_sku[index] or 0) + qty > limit)
      or (cue.limit and total + qty > cue.limit)
  end

  for i = 1, n do
    if i > 1 and work >= WORK_MAX then
      break
    elseif records[i] == nil then
      read(i)
    end
    judged, work = i, work + 4
    local buyer, text, rank = buyers[i], texts[i], ranks[i]
    if text and records[i] and over_limit(buyer, records[i], text) then
      codes[i], text = LIMIT_REACHED, nil
    end
    local window = text and tonumber(string.match(text, '^%d+'))
    local hopeless = window and worst_rank and (window > worst_window
      or (window == worst_window and is_smaller(worst_rank, rank)))
    if text and not hopeless then
      local before = redis.call('HGET', k_entries, buyer)
      local first = before and first_of(before, text) or text
      if first ~= before then
        redis.call('ZADD', k_best, string.match(first, '^%d+'), rank .. buyer)
        redis.call('HSET', k_entries, buyer, first)
      end
    end
  end
  local excess = redis.call('ZCARD', k_best) - cue.kept
  if excess > 0 then
    local popped, gone = redis.call('ZPOPMAX', k_best, excess), {}
    for k = 1, #popped, 2 do
      gone[#gone + 1] = string.sub(popped[k], 33)
    end
    redis.call('HDEL', k_entries, unpack(gone))
  end
  return judged
end
