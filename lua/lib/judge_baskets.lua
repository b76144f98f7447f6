-- include lib/read_rows
-- include lib/refuse_units
-- include lib/shard_full
-- What each basket is answered for a buyer who has nothing yet, before anybody of this batch has
-- taken anything: `code` is the outcome code of a refusal, `sku` the line that it is for, if
-- several. `closed` is why no hold is taken at all, if so. Says whether any of them can be had.
local function judge_baskets(book, shard, keys, baskets, closed)
  local SHARD_FULL = 'B' -- outcomes
  local full = closed or (shard_full(book, shard, keys.buyers) and SHARD_FULL)
  if not full then
    local all_lines = {}
    for b = 1, #baskets do
      all_lines[b] = baskets[b].lines
    end
    read_rows(book, keys.stock, all_lines)
  end
  local open, nothing = false, {}
  for b = 1, #baskets do
    local basket = baskets[b]
    local index = basket.refusal
    basket.code = closed or index or full
    if not basket.code then
      basket.code, index = refuse_units(book, shard, keys, basket.lines, nothing, 0)
    end
    basket.sku = not closed and basket.names and basket.names[index] or nil
    open = open or not basket.code
  end
  return open
end
