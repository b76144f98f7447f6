-- A basket's text in records and the ledger: {index, qty, …} in ascending order of index.
-- One unit of sku 0, the whole of most flash sales, is the empty text.
local function format_basket(lines)
  if #lines == 2 and lines[1] == 0 and lines[2] == 1 then
    return ''
  end
  local parts = {}
  for k = 1, #lines, 2 do
    local qty = lines[k + 1]
    parts[#parts + 1] = qty == 1 and tostring(lines[k]) or lines[k] .. '*' .. qty
  end
  return table.concat(parts, ',')
end
