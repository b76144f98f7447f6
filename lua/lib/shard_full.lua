-- Whether the shard has no room for one more buyer.
local function shard_full(book, shard, k_buyers)
  book.buyers = book.buyers or redis.call('HLEN', k_buyers)
  return book.buyers + book.new_buyers >= shard.buyers_max
end
