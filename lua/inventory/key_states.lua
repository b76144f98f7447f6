#!lua flags=no-writes
-- Says of each of a sale's keys, and of the hashes of cues that may follow them, whether something
-- of the right type is in it. It relies on nothing else, so it works whatever the sale has lost.
--
-- KEYS  sale skus stock buyers ledger deadlines restocks readers cues lags room admitted vacant
--       caps
-- ARGV  caller_ms   the caller's clock
-- REPLY {code ("" or u, p), {"" or "missing" or "mistyped", one for each key}}
-- CODES u SALE_UNKNOWN, p PURGED

local keys = {
  sale = KEYS[1], skus = KEYS[2], stock = KEYS[3], buyers = KEYS[4], ledger = KEYS[5],
  deadlines = KEYS[6], restocks = KEYS[7], readers = KEYS[8], cues = KEYS[9],
  lags = KEYS[10], room = KEYS[11], admitted = KEYS[12], vacant = KEYS[13], caps = KEYS[14],
}
-- Every call brings it; nothing here depends on the time.
local caller_ms = ARGV[1] -- luacheck: no unused
local every_key = KEYS

-- include lib/key_state

local SALE_UNKNOWN, PURGED = 'u', 'p' -- outcomes
local KINDS = { ledger = 'stream', deadlines = 'zset', vacant = 'string' }

local kind_of = {}
for name, key in pairs(keys) do
  kind_of[key] = KINDS[name] or 'hash'
end
local states, missing = {}, 0
for i, key in ipairs(every_key) do
  states[i] = key_state(key, kind_of[key] or 'hash')
  missing = missing + (states[i] == 'missing' and 1 or 0)
end
local code = missing == #every_key and SALE_UNKNOWN or ''
if states[1] == '' and redis.call('HGET', keys.sale, 'state') == 'purged' then
  code = PURGED
end
return { code, states }
