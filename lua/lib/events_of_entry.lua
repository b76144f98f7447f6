-- The events of holds in a ledger entry's fields (name → value), by buyer: {letter, id, basket,
-- extra}, in their order; and the buyers in the order in which they come first.
local function events_of_entry(value)
  local buyers, events = {}, {}
  for letter in string.gmatch('ethacdrxf', '.') do
    if value[letter .. 'b'] then
      local names = cmsgpack.unpack(value[letter .. 'b'])
      local ids = cmsgpack.unpack(value[letter .. 'i'])
      local baskets = value[letter .. 'l'] and cmsgpack.unpack(value[letter .. 'l']) or { { '' } }
      local extra = letter == 'x' and value.xd or letter == 'f' and value.fo
      extra = extra and cmsgpack.unpack(extra) or {}
      for n, buyer in ipairs(names) do
        if not events[buyer] then
          buyers[#buyers + 1], events[buyer] = buyer, {}
        end
        local basket = letter == 't' and '' or baskets[1][baskets[2] and baskets[2][n] or 1]
        table.insert(events[buyer],
          { letter = letter, id = ids[n], basket = basket, extra = extra[n] })
      end
    end
  end
  return buyers, events
end
