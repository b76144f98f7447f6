-- include lib/counter_of
-- Reads the counters of many skus in one command, unless the book has them already: a available,
-- x set aside, h held, s sold, the limit, and the name (the index as text: a number is slow to
-- write). `all_lines` is a list of lines {index, qty, …}.
local function read_rows(book, k_stock, all_lines)
  local rows, missing, fields, c = book.rows, {}, {}, 0
  for b = 1, #all_lines do
    local lines = all_lines[b]
    for k = 1, #lines, 2 do
      local index = lines[k]
      if rows[index] == nil then
        rows[index] = false
        missing[#missing + 1] = index
        local name = index .. ''
        fields[c + 1], fields[c + 2], fields[c + 3] = name .. 'a', name .. 'x', name .. 'h'
        fields[c + 4], fields[c + 5] = name .. 's', name .. 'l'
        c = c + 5
      end
    end
  end
  if c == 0 then
    return
  end
  local read = redis.call('HMGET', k_stock, unpack(fields))
  book.work = book.work + 6 * #missing
  for m = 1, #missing do
    local at = 5 * m - 4
    local limit = read[at + 4]
    rows[missing[m]] = {
      name = string.sub(fields[at], 1, -2),
      a = tonumber(read[at]) or counter_of(nil, fields[at]),
      x = tonumber(read[at + 1]) or counter_of(nil, fields[at + 1]),
      h = tonumber(read[at + 2]) or counter_of(nil, fields[at + 2]),
      s = tonumber(read[at + 3]) or counter_of(nil, fields[at + 3]),
      limit = limit ~= '' and (tonumber(limit) or counter_of(nil, fields[at + 4])) or nil,
    }
  end
end
