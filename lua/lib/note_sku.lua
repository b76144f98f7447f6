-- Names in a reply's details the line that operation i was refused for.
local function note_sku(details, i, state, sku)
  local d = #details
  details[d + 1], details[d + 2], details[d + 3], details[d + 4] = i, state, sku, 2
end
