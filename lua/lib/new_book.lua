-- What a call has decided and not yet written. Nothing reaches the server before close_book:
-- Lua has no rollback.
local function new_book()
  return {
    records = {}, -- buyer → record as read (false: none)
    holds = {}, -- buyer → its holds, parsed, as they will be
    touched = {}, -- buyers whose record changes, and a set of them
    is_touched = {},
    new_buyers = 0,
    rows = {}, -- sku index → {a, x, h, s, limit} as it will be
    changed_rows = {}, -- sku index → true
    events = {}, -- letter → {buyers, ids, baskets, extra}
    deadlines = {}, -- member → deadline to set, or false to remove
  }
end
