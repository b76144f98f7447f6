-- Where the sweep has got to: the first entry of the ledger not yet walked to its end, and how many
-- of its holds were looked at before a sweep had to stop ("17" or "17:64").
local function cursor_of(shard)
  local sequence, looked = string.match(shard.cursor, '^(%d+):?(%d*)$')
  return tonumber(sequence), tonumber(looked) or 0
end
