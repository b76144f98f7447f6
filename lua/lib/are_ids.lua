-- Whether all of a list are identifiers, as `is_id` says, at half of its cost: one search over all
-- their characters, each class a range. What is neither text nor number cannot be joined, and
-- `id .. '' ~= id` is true of a number, without the call that `type` is.
local function are_ids(list)
  local joined, text = pcall(table.concat, list)
  for i = 1, joined and #list or 0 do
    local id = list[i]
    if id .. '' ~= id or id == '' or #id > 64 then
      return false
    end
  end
  return joined and string.find(text, '^[a-z--9@-Z_=+~]*$') ~= nil
end
