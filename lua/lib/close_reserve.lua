-- include lib/counter_of
-- include lib/set_aside
-- Ends a cue's set-aside: what is left of it is available to everybody. `x:CUE` in the stock hash
-- names the skus concerned ("0,3,7") and is there as long as the set-aside is.
local function close_reserve(book, k_stock, cue)
  local indexes = not book.closed_cues[cue] and redis.call('HGET', k_stock, 'x:' .. cue)
  if not indexes then
    return
  end
  for index in string.gmatch(indexes, '%d+') do
    local field = index .. 'x:' .. cue
    local left = book.parts[field] or counter_of(redis.call('HGET', k_stock, field), field)
    if left > 0 then
      set_aside(book, k_stock, cue, tonumber(index), -left)
    end
    book.parts[field] = false
    book.work = book.work + 8
  end
  book.aside[cue] = book.aside[cue] or {} -- the ledger says so even if nothing was left
  book.parts['x:' .. cue], book.parts['y:' .. cue] = false, false
  book.deadlines['|' .. cue] = false
  book.closed_cues[cue] = true
end
