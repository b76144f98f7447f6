-- include lib/pack_baskets
-- The fields of the ledger entry that tells what a call has decided, at most 60 values: `t` and
-- nothing else if nothing happened. `fields` are further ones: {name, value, …}.
local function ledger_entry(book, shard, fields)
  local entry = { 't', shard.now }
  local function add(name, value)
    entry[#entry + 1], entry[#entry + 2] = name, value
  end
  for letter in string.gmatch('ethacdrxf', '.') do
    local event = book.events[letter]
    if event then
      add(letter .. 'b', cmsgpack.pack(event.buyers))
      add(letter .. 'i', cmsgpack.pack(event.ids))
      local baskets = pack_baskets(event.baskets)
      if baskets ~= '' then
        add(letter .. 'l', baskets)
      end
      if letter == 'x' or letter == 'f' then
        add(letter == 'x' and 'xd' or 'fo', cmsgpack.pack(event.extra))
      end
    end
  end
  local moves = {}
  for cue, changes in pairs(book.aside) do
    local flat = { cue }
    for index, qty in pairs(changes) do
      if qty ~= 0 then
        flat[#flat + 1], flat[#flat + 2] = index, qty
      end
    end
    -- A cue alone says that its reserve has ended, which what was taken and given back does not.
    if flat[2] or book.closed_cues[cue] then
      moves[#moves + 1] = flat
    end
  end
  if moves[1] then
    add('v', cmsgpack.pack(moves))
  end
  local ended = {}
  for cue in pairs(book.closed_cues) do
    ended[#ended + 1] = cue
  end
  if ended[1] then
    add('ve', cmsgpack.pack(ended))
  end
  for k = 1, #fields do
    entry[#entry + 1] = fields[k]
  end
  return entry
end
