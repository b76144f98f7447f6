-- Sets fields of a hash, at most 1,024: name, value, … If they are its `first` ones the server is
-- made to keep it as a table from the start, by a value too long for a listpack: it would else
-- search a list for each of a million who ask for what a few hundred have. The first field's own
-- value comes behind it in the same command, so that no other is ever stored.
local function write_table(key, first, name, ...)
  if first then
    redis.call('HSET', key, name, string.rep(' ', 65), name, ...)
  else
    redis.call('HSET', key, name, ...)
  end
end
