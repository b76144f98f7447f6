-- The lines {index, qty, …} of a basket's text; each text is read once a call.
local basket_lines = { [''] = { 0, 1 } }
local function parse_basket(text)
  local lines = basket_lines[text]
  if not lines then
    lines = {}
    for index, qty in string.gmatch(text, '(%d+)%*?(%d*)') do
      lines[#lines + 1] = tonumber(index)
      lines[#lines + 1] = tonumber(qty) or 1
    end
    basket_lines[text] = lines
  end
  return lines
end
