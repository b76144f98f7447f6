-- Whether a key has something of its type (hash, stream, zset, string) in it: "" or "missing" or
-- "mistyped". It asks by the few commands that even a viewer may use, and further ones if allowed.
local function key_state(key, kind)
  local COUNTS = { zset = 'ZCARD', string = 'STRLEN' }
  local function is_mistyped(reply)
    return type(reply) == 'table' and reply.err
      and string.find(reply.err, 'WRONGTYPE', 1, true) ~= nil
  end
  if kind == 'stream' then
    local first = redis.pcall('XRANGE', key, '-', '+', 'COUNT', 1)
    return is_mistyped(first) and 'mistyped' or first[1] and '' or 'missing'
  end
  local length = redis.pcall('HLEN', key)
  if length == 0 then
    return 'missing'
  elseif kind == 'hash' then
    return is_mistyped(length) and 'mistyped' or ''
  end
  local is_other = type(length) == 'number' or is_mistyped(redis.pcall(COUNTS[kind], key))
  return is_other and 'mistyped' or ''
end
