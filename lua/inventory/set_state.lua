#!lua
-- Pauses, resumes or ends a sale. Ending is for good.
--
-- KEYS  sale skus stock buyers ledger deadlines
-- ARGV  caller_ms   the caller's clock, for the check of the server's
--       state       "paused", "running" or "ended"
-- CODES P PAUSED, r RESUMED, Z ENDED, * MEMORY_FULL, u SALE_UNKNOWN, p PURGED, ! MALFORMED
-- FULL  all but resuming, which would let the ledger grow with every pause

local keys = {
  sale = KEYS[1], skus = KEYS[2], stock = KEYS[3], buyers = KEYS[4], ledger = KEYS[5],
  deadlines = KEYS[6],
}
local caller_ms, state = unpack(ARGV)
local is_full = false -- true in the twin for a full memory, see flashsale.scripts

-- include lib/load_shard
-- include lib/new_book
-- include lib/expire_due
-- include lib/new_reply
-- include lib/answer
-- include lib/send_reply
-- include lib/also_write
-- include lib/close_book

local PAUSED, RESUMED, ENDED, MEMORY_FULL, MALFORMED = 'P', 'r', 'Z', '*', '!' -- outcomes
local SWEEP_PER_CALL = 128
local CODES = { paused = PAUSED, running = RESUMED, ended = ENDED }

local shard, refusal, time = load_shard(keys.sale, caller_ms)
if not shard then
  return { 0, time, 0, refusal, '' }
end
local book, fields, reply = new_book(), {}, new_reply()
expire_due(book, shard, keys, SWEEP_PER_CALL)
if not CODES[state] then
  answer(reply, 1, MALFORMED)
elseif shard.state == state then
  answer(reply, 1, CODES[state])
  reply.details = { 1, '', 0, 1 }
elseif shard.state == 'ended' then
  answer(reply, 1, ENDED)
elseif is_full and state == 'running' then
  answer(reply, 1, MEMORY_FULL)
else
  fields = { 's', state }
  also_write(book, 'HSET', keys.sale, { 'state', state })
  answer(reply, 1, CODES[state])
end
close_book(book, shard, keys, fields)
return send_reply(shard, reply)
