-- The counters of one sku: a available, x set aside, h held, s sold, and its limit.
local function sku_row(book, k_stock, index)
  local row = book.rows[index]
  if not row then
    local read = redis.call('HMGET', k_stock, index .. 'a', index .. 'x', index .. 'h',
      index .. 's', index .. 'l')
    row = {
      a = tonumber(read[1]),
      x = tonumber(read[2]),
      h = tonumber(read[3]),
      s = tonumber(read[4]),
      limit = tonumber(read[5]),
    }
    book.rows[index] = row
  end
  return row
end
