-- Whether the shard has no room for so many more buyers (one, if it is not said) beside those who
-- may yet win in a cue: for each unit that is set aside a seat is kept.
local function shard_full(book, shard, k_buyers, more)
  book.buyers = book.buyers or redis.call('HLEN', k_buyers)
  local seats = shard.seats + (book.seats or 0)
  return book.buyers + book.new_buyers + (more or 1) > shard.buyers_max - seats
end
