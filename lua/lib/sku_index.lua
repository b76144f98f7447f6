-- include lib/damaged
-- The index of a sku, or nil if the sale has none of this id. Every sale has skus: a hash without
-- any was lost, and says nothing about them.
local function sku_index(k_skus, sku)
  local index = tonumber(redis.call('HGET', k_skus, sku))
  if not index and redis.call('HLEN', k_skus) == 0 then
    damaged('the key skus')
  end
  return index
end
