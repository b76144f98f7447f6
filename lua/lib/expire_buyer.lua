-- include lib/expire_hold
-- include lib/holds_of
-- Expires the due holds of one buyer, wherever the sweep has got to; there are 64 at most.
local function expire_buyer(book, shard, keys, buyer)
  if not shard.due or shard.now < shard.due or book.expired[buyer] then
    return
  end
  book.expired[buyer] = true
  for _, hold in ipairs(holds_of(book, buyer)) do
    if hold.state == 'h' and tonumber(hold.stamp) <= shard.now then
      expire_hold(book, keys, buyer, hold)
    end
  end
end
