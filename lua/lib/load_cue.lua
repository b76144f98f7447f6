-- A cue's state and rules, or nil and an outcome code.
local function load_cue(k_cue)
  local CUE_UNKNOWN = 'm' -- outcomes
  local cue = redis.call('HMGET', k_cue, 'format', 'state', 'rules', 'lines', 'id', 'published_at')
  if not cue[1] then
    return nil, CUE_UNKNOWN
  end
  if cue[1] ~= '1' then
    error({ err = 'FLASHSALE_FORMAT the cue is in format ' .. cue[1] .. ', this script reads 1' })
  end
  local rules = cmsgpack.unpack(cue[3])
  local published_at, publish_wait = tonumber(cue[6]), rules[14]
  return {
    id = cue[5],
    state = cue[2], -- open, frozen, revealed, void
    position = rules[1], -- of the cue on the media timeline, ms
    at = rules[2], -- the server's time of that moment, ms
    ahead = rules[3], -- how far ahead of live a tap's position may be, and of the cue a tap, ms
    window = rules[4], -- ms
    windows = rules[5],
    credit = rules[6], -- lag cap + spread + network grace, ms
    closes = rules[7],
    entropy_at = rules[8], -- when the public seed is known, or false
    reserve = rules[9], -- how long places that fall free go to the next, ms
    kept = rules[10], -- how many entries are kept, or false: all
    entries_max = rules[11],
    limit = rules[12], -- the sale's, or false
    reveals = rules[13], -- when the result is announced for
    publish_wait = publish_wait, -- from the digest being published to the awards, or false
    published_at = published_at, -- nil: it is not
    awards = publish_wait and (published_at or math.huge) + publish_wait or 0, -- not before
    lines = cmsgpack.unpack(cue[4]), -- {sku, index, units set aside, limit or false, …}
  }
end
