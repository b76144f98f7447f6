-- Whether all of a list are identifiers, as `is_id` says, at half of its cost: one search over all
-- their characters, each class a range. `id .. '' ~= id` is true of a number, without the call
-- that `type` is; what is neither text nor number may not be joined and raises an error, which
-- `pcall` makes a no.
local function are_ids(list)
  local function check()
    for i = 1, #list do
      local id = list[i]
      if id .. '' ~= id or id == '' or #id > 64 then
        return false
      end
    end
    return string.find(table.concat(list), '^[a-z--9@-Z_=+~]*$')
  end
  local ran, fits = pcall(check)
  return ran and fits
end
