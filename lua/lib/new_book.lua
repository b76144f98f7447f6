-- What a call has decided and not yet written. Nothing reaches the server before close_book:
-- Lua has no rollback.
local function new_book()
  return {
    work = 0, -- what was looked at so far, in units of about a microsecond
    most = 6144, -- beyond that nothing more is begun
    read = 0, -- operations of the batch whose buyers' records were read: lib/may_judge
    expired = {}, -- buyers whose due holds were expired in this call
    units = {}, -- buyer → {units per sku index, in all}, until the record changes
    records = {}, -- buyer → record as read (false: none)
    holds = {}, -- buyer → its holds, parsed, as they will be
    touched = {}, -- buyers whose record changes, and a set of them
    is_touched = {},
    new_buyers = 0,
    seats = 0, -- how many more, or fewer, units are set aside: see lib/shard_full
    rows = {}, -- sku index → {a, x, h, s, limit} as it will be
    changed_rows = {}, -- sku index → true
    events = {}, -- letter → {buyers, ids, baskets, extra}
    parts = {}, -- field of the stock hash → a cue's set-aside of a sku, or false to remove
    aside = {}, -- cue → sku index → units set aside, or negative
    closed_cues = {}, -- cues whose set-aside ends in this call
    deadlines = {}, -- member → deadline to set, or false to remove
    writes = {}, -- what else close_book is to write: {command, key, values}
  }
end
