-- include lib/move_units
-- include lib/note_sku
-- Gives out stock to buyers who have nothing yet, in order, as far as it goes: `baskets` have a
-- `code` if none of that basket is given at all; `replayed` (or nil) are the operations that take
-- nothing. Moves the units in the book and returns nil if every operation got its own, else the
-- list of those that did and everybody's outcome code; `details` name the lines of refusals.
local function share_out(book, keys, baskets, which, n, replayed, details)
  local HELD, SOLD_OUT, SOLD_OUT_MAY_RETURN = 'H', 'S', 's' -- outcomes
  local need, plenty = {}, not replayed
  if not which then
    baskets[1].count = n
  end
  for i = 1, which and n or 0 do
    local basket = baskets[which[i]]
    basket.count = (basket.count or 0) + 1
  end
  for b = 1, plenty and #baskets or 0 do
    local basket = baskets[b]
    plenty = plenty and not basket.code
    for k = 1, plenty and #basket.lines or 0, 2 do
      local index = basket.lines[k]
      need[index] = (need[index] or 0) + (basket.count or 0) * basket.lines[k + 1]
      plenty = plenty and need[index] <= book.rows[index].a
    end
  end
  if plenty then
    for index, units in pairs(need) do
      move_units(book, keys.stock, { index, units }, 'a', 'h')
    end
    return nil
  end

  local taken, codes = {}, {}
  for i = 1, n do
    local basket = baskets[which and which[i] or 1]
    local code, lines, sku = basket.code, basket.lines, basket.sku
    if replayed and replayed[i] then
      codes[i] = HELD
    else
      for k = 1, code and 0 or #lines, 2 do
        local row, qty = book.rows[lines[k]], lines[k + 1]
        if row.a < qty then
          sku = sku or basket.names and basket.names[lines[k]]
          code = (code == SOLD_OUT or row.a + row.h + row.x < qty) and SOLD_OUT
            or SOLD_OUT_MAY_RETURN
        end
      end
      if not code then
        move_units(book, keys.stock, lines, 'a', 'h')
        taken[#taken + 1] = i
      end
      codes[i] = code or HELD
      if sku then
        note_sku(details, i, '', sku)
      end
    end
  end
  return taken, codes
end
