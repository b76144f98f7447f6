-- Reads fields that are spread over several hashes, each hash in one command: field → value, and an
-- empty list for every hash; nil if one of them is said to be in a hash that was not given.
local function spread_reads(k_hashes, fields, where)
  local asked, found, sets = {}, {}, {}
  for w = 1, #k_hashes do
    asked[w], sets[w] = {}, {}
  end
  for i = 1, #fields do
    local list = asked[where[i]]
    if not list then
      return nil
    end
    list[#list + 1] = fields[i]
  end
  for w, list in ipairs(asked) do
    if list[1] then
      for k, value in ipairs(redis.call('HMGET', k_hashes[w], unpack(list))) do
        found[list[k]] = value
      end
    end
  end
  return found, sets
end
