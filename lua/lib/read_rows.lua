-- Reads the counters of many skus in one command, unless the book has them already: a available,
-- x set aside, h held, s sold, and the limit. `all_lines` is a list of lines {index, qty, …}.
local function read_rows(book, k_stock, all_lines)
  local missing, fields = {}, {}
  for _, lines in ipairs(all_lines) do
    for k = 1, #lines, 2 do
      local index = lines[k]
      if book.rows[index] == nil then
        book.rows[index] = false
        missing[#missing + 1] = index
        for _, counter in ipairs({ 'a', 'x', 'h', 's', 'l' }) do
          fields[#fields + 1] = index .. counter
        end
      end
    end
  end
  if #missing == 0 then
    return
  end
  local read = redis.call('HMGET', k_stock, unpack(fields))
  for m, index in ipairs(missing) do
    local at = 5 * m - 4
    book.rows[index] = {
      a = tonumber(read[at]),
      x = tonumber(read[at + 1]),
      h = tonumber(read[at + 2]),
      s = tonumber(read[at + 3]),
      limit = tonumber(read[at + 4]),
    }
  end
end
