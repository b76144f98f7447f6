-- include lib/parse_basket
-- What is left of basket `text` after taking the lines out, as lines {index, qty, …} without
-- empty ones; nil if a line names more than there is.
local function minus(lines, taken)
  local left, where = {}, {}
  for k = 1, #lines, 2 do
    left[lines[k]] = lines[k + 1]
    where[#where + 1] = lines[k]
  end
  for k = 1, #taken, 2 do
    local rest = (left[taken[k]] or 0) - taken[k + 1]
    if rest < 0 then
      return nil
    end
    left[taken[k]] = rest
  end
  local rest = {}
  for _, index in ipairs(where) do
    if left[index] > 0 then
      rest[#rest + 1] = index
      rest[#rest + 1] = left[index]
    end
  end
  return rest
end
