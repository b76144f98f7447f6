-- include lib/read_records
-- Whether operation i of a batch is judged in this call, in an exact loop. The first one always is.
-- Once the call has done its share (`book.work`, in units of about a microsecond), or is at `most`,
-- it and all that follow are left *unjudged*: nothing is said of them but a letter that is no
-- outcome, and the client sends them again. Reads the records of the buyers who come next; `known`
-- are those of the first of them, if they were read and nothing has changed them since. It has
-- nothing to say as long as i <= book.read and book.work < book.most: whoever looks at these first
-- spares a call for nearly every operation.
local function may_judge(book, keys, buyers, i, reply, known, most)
  local UNJUDGED, LOOP_MAX, SHORT_READ_MAX = '.', 256, 32
  local last = math.min(LOOP_MAX, most or LOOP_MAX, #buyers)
  if i > 1 and (book.work >= book.most or i > last) then
    for rest = i, #buyers do
      reply.codes[rest] = UNJUDGED
    end
    return false
  end
  if i > book.read then
    local given = i == 1 and known or nil
    book.read = math.min(i - 1 + math.max(SHORT_READ_MAX, given and #given or 0), last)
    book.work = book.work + 8 * (book.read - i + 1)
    read_records(book, keys.buyers, { unpack(buyers, i, book.read) }, given)
  end
  return true
end
