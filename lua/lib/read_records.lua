-- Reads the records of many buyers in one command, unless the book has them already. `known` are
-- those of the first of them if this call has read them and nothing has changed them since. What
-- is read is work in proportion to its bytes (measured: a microsecond, and one more a KiB or so).
local function read_records(book, k_buyers, buyers, known)
  local missing, read, bytes = {}, known and math.min(#known, #buyers) or 0, 0
  for i = 1, read do
    if known[i] then
      bytes = bytes + #known[i]
    end
    if book.records[buyers[i]] == nil then
      book.records[buyers[i]] = known[i]
    end
  end
  for i = 1, #buyers do
    local buyer = buyers[i]
    if type(buyer) == 'string' and book.records[buyer] == nil then
      book.records[buyer] = false
      missing[#missing + 1] = buyer
    end
  end
  if #missing > 0 then
    local found = redis.call('HMGET', k_buyers, unpack(missing))
    for i = 1, #missing do
      if found[i] then
        bytes = bytes + #found[i]
      end
      book.records[missing[i]] = found[i]
    end
  end
  book.work = book.work + read + #missing + bytes / 1024
end
