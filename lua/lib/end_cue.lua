-- include lib/close_reserve
-- Voids a cue: what it set aside is available again. Says why in the cue itself.
local function end_cue(book, k_stock, k_cue, cue, reason)
  close_reserve(book, k_stock, cue.id)
  cue.state = 'void'
  redis.call('HSET', k_cue, 'state', 'void', 'reason', reason)
end
