-- include lib/also_write
-- include lib/is_id
-- How many holds were taken under each key (a device, an account's age: whatever the service
-- passes), against the denial of stock by holding and abandoning; false if nothing is counted.
-- They are never counted back.
local function read_caps(shard, k_caps, cap_keys_blob, n)
  if not shard.key_holds_max or cap_keys_blob == '' then
    return false
  end
  local cap_keys = cmsgpack.unpack(cap_keys_blob)
  local asked, counts, changed = {}, {}, {}
  if #cap_keys ~= n then
    error({ err = 'FLASHSALE_MALFORMED a batch has 1 to 1024 operations and lists of one length' })
  end
  for i = 1, n do
    if cap_keys[i] ~= '' and not is_id(cap_keys[i]) then
      error({ err = 'FLASHSALE_MALFORMED a key is an identifier' })
    elseif cap_keys[i] ~= '' then
      asked[#asked + 1] = cap_keys[i]
    end
  end
  for k, count in ipairs(asked[1] and redis.call('HMGET', k_caps, unpack(asked)) or {}) do
    counts[asked[k]] = tonumber(count) or 0
  end
  return {
    is_used_up = function(i)
      return cap_keys[i] ~= '' and counts[cap_keys[i]] >= shard.key_holds_max
    end,
    count = function(i)
      if cap_keys[i] ~= '' then
        counts[cap_keys[i]] = counts[cap_keys[i]] + 1
        changed[cap_keys[i]] = counts[cap_keys[i]]
      end
    end,
    write = function(book)
      local fields = {}
      for origin, count in pairs(changed) do
        fields[#fields + 1], fields[#fields + 2] = origin, count
      end
      also_write(book, 'HSET', k_caps, fields)
    end,
  }
end
