#!lua flags=no-writes
-- Tells buyers what the draw gave them: a batch.
--
-- KEYS  sale cue entries awarded
-- ARGV  caller_ms   the caller's clock
--       buyers      msgpack: array of buyers
-- REPLY as of every batch: award.lua's code of who was judged, with a hold's deadline, else one of
--       CODES
-- CODES z NOT_DRAWN, Y NOT_ENTERED, j NOT_CLOSED, f FROZEN, x VOID, m CUE_UNKNOWN, u SALE_UNKNOWN,
--       p PURGED

local k_sale, k_cue, k_entries, k_awarded = unpack(KEYS)
local caller_ms, buyers_blob = unpack(ARGV)

-- include lib/load_shard
-- include lib/load_cue
-- include lib/check_batch

local NOT_DRAWN, NOT_ENTERED, NOT_CLOSED, FROZEN, VOID = 'z', 'Y', 'j', 'f', 'x' -- outcomes

local shard, refusal, time = load_shard(k_sale, caller_ms)
if not shard then
  return { 0, time, 0, refusal, '' }
end
local epoch = tonumber(shard.epoch)
local cue, unknown = load_cue(k_cue)
local code = unknown
if cue and cue.state ~= 'revealed' then
  code = cue.state == 'void' and VOID or cue.state == 'frozen' and FROZEN or NOT_CLOSED
end
if code then
  return { epoch, shard.now, 0, code, '' }
end
local buyers = cmsgpack.unpack(buyers_blob)
local n = check_batch(buyers)
local verdicts = redis.call('HMGET', k_awarded, unpack(buyers))
local entries = not cue.kept and redis.call('HMGET', k_entries, unpack(buyers))
local codes, details = {}, {}
for i = 1, n do
  local verdict = verdicts[i]
  if verdict then
    codes[i] = string.sub(verdict, 1, 1)
    local deadline = tonumber(string.sub(verdict, 3, 15))
    if deadline then
      local d = #details
      details[d + 1], details[d + 2], details[d + 3], details[d + 4] = i, 'h', deadline, 1
    end
  else
    codes[i] = (not entries or entries[i]) and NOT_DRAWN or NOT_ENTERED
  end
end
return {
  epoch, shard.now, 0, table.concat(codes), details[1] and cmsgpack.pack(details) or '',
}
