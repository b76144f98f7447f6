-- include lib/move_units
-- Gives out stock to buyers who have nothing yet, in order, as far as it goes: `baskets` have a
-- `code` if none of that basket is given at all. Moves the units in the book and returns nil if
-- everybody got theirs, else the list of those who did and everybody's outcome code.
local function share_out(book, keys, baskets, which, n)
  local HELD, SOLD_OUT, SOLD_OUT_MAY_RETURN = 'H', 'S', 's' -- outcomes
  local need, plenty = {}, true
  for i = 1, which and n or 1 do
    local basket = baskets[which and which[i] or 1]
    basket.count = (basket.count or 0) + (which and 1 or n)
  end
  for _, basket in ipairs(baskets) do
    plenty = plenty and not basket.code
    for k = 1, plenty and #basket.lines or 0, 2 do
      local index = basket.lines[k]
      need[index] = (need[index] or 0) + (basket.count or 0) * basket.lines[k + 1]
      plenty = plenty and need[index] <= book.rows[index].a
    end
  end
  if plenty then
    local lines = {}
    for index, units in pairs(need) do
      lines[#lines + 1] = index
      lines[#lines + 1] = units
    end
    move_units(book, keys.stock, lines, 'a', 'h')
    return nil
  end

  local taken, codes = {}, {}
  for i = 1, n do
    local basket = baskets[which and which[i] or 1]
    local code, lines = basket.code, basket.lines
    for k = 1, code and 0 or #lines, 2 do
      local row, qty = book.rows[lines[k]], lines[k + 1]
      if row.a < qty then
        code = (code == SOLD_OUT or row.a + row.h + row.x < qty) and SOLD_OUT
          or SOLD_OUT_MAY_RETURN
      end
    end
    if not code then
      move_units(book, keys.stock, lines, 'a', 'h')
      taken[#taken + 1] = i
    end
    codes[i] = code or HELD
  end
  return taken, codes
end
