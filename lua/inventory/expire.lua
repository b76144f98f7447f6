#!lua
-- Sweeps due holds back into stock.
--
-- KEYS  sale skus stock buyers ledger deadlines
-- ARGV  caller_ms   the caller's clock, for the check of the server's
--       budget      how many holds to expire, 1 to 1,024 (rounded up to a whole ledger entry)
-- REPLY {epoch, now, expired, more (1: holds may still be due), code ("" or u, p)}; expired may be
--       0 though there is more: one call looks at a bounded number of holds, also of those paid
-- CODES u SALE_UNKNOWN, p PURGED
-- FULL  all of it

local keys = {
  sale = KEYS[1], skus = KEYS[2], stock = KEYS[3], buyers = KEYS[4], ledger = KEYS[5],
  deadlines = KEYS[6],
}
local caller_ms, budget_text = unpack(ARGV)

-- include lib/load_shard
-- include lib/new_book
-- include lib/expire_due
-- include lib/close_book

local budget = tonumber(budget_text)
if not budget or budget % 1 ~= 0 or budget < 1 or budget > 1024 then
  return redis.error_reply('FLASHSALE_MALFORMED the budget must be a whole number from 1 to 1024')
end
local shard, refusal, time = load_shard(keys.sale, caller_ms)
if not shard then
  return { 0, time, 0, 0, refusal }
end
local book = new_book()
local expired = expire_due(book, shard, keys, budget)
close_book(book, shard, keys, {})
local more = shard.due and shard.now >= shard.due
return { tonumber(shard.epoch), shard.now, expired, more and 1 or 0, '' }
