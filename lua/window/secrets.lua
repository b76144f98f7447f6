#!lua flags=no-writes
-- Tells a cue's secrets to a process that enters buyers or settles. They never change. Whoever only
-- looks on has no access to that key.
--
-- KEYS  sale cue secrets
-- ARGV  caller_ms   the caller's clock
-- REPLY {epoch, now, code (or ""), fresh, salt, nonce}, the last three in hexadecimal
-- CODES m CUE_UNKNOWN, u SALE_UNKNOWN, p PURGED

local k_sale, k_cue, k_secrets = unpack(KEYS)
local caller_ms = ARGV[1]

-- include lib/load_shard
-- include lib/load_cue
-- include lib/damaged

local shard, refusal, time = load_shard(k_sale, caller_ms)
if not shard then
  return { 0, time, refusal, '', '', '' }
end
local cue, unknown = load_cue(k_cue)
if not cue then
  return { tonumber(shard.epoch), shard.now, unknown, '', '', '' }
end
local secrets = redis.call('HMGET', k_secrets, 'fresh', 'salt', 'nonce')
if not (secrets[1] and secrets[2] and secrets[3]) then
  damaged('the secrets of the cue ' .. cue.id)
end
return { tonumber(shard.epoch), shard.now, '', secrets[1], secrets[2], secrets[3] }
