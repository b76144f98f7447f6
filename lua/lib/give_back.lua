-- include lib/move_units
-- include lib/set_aside
-- Gives held lines back: to what is available, or, of a winner's hold, to its cue's set-aside as
-- long as the cue keeps its reserve for the next in order. `y:CUE` in the stock hash counts how
-- often, so that nobody is asked about such units before those who wait longer (window/award).
local function give_back(book, keys, hold, lines)
  move_units(book, keys.stock, lines, 'h', 'a')
  if hold.cue and not book.closed_cues[hold.cue]
    and redis.call('HEXISTS', keys.stock, 'x:' .. hold.cue) == 1 then
    for k = 1, #lines, 2 do
      set_aside(book, keys.stock, hold.cue, lines[k], lines[k + 1])
    end
    local field = 'y:' .. hold.cue
    local freed = book.parts[field] or redis.call('HGET', keys.stock, field) or 0
    book.parts[field] = tonumber(freed) + 1
  end
end
