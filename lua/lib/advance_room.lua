-- Moves a waiting room on: ends the turns whose time is over and calls places, at its rate and
-- never more than the stock is expected to be for. `closed` is why nobody may hold now, if so;
-- `measured` whether what turns take is counted, as it is in a sale with admission; `is_vacant`
-- tells of a place whether it was left: it is passed over, and no turn begins.
-- Returns the fields of the room to set and those to remove.
local function advance_room(room, now, available, closed, measured, is_vacant)
  local PRIOR_TURNS, BURST_S, LOOKS_MAX, PLACES_MAX = 20, 2, 128, 1e8
  local sets, gone, live = {}, {}, {}
  local function set(field, value)
    sets[#sets + 1], sets[#sets + 2] = field, value
  end

  local outstanding = room.serving
  for _, row in ipairs(room.turns) do
    if now >= (row.slot + 1) * room.slot + room.ttl then
      room.over, room.units, room.arrived = row.s, room.units + row.u, room.arrived + row.a
      room.passed = room.passed + row.p
      for letter in string.gmatch('sadup', '.') do
        gone[#gone + 1] = row.slot .. letter
      end
    else
      live[#live + 1] = row
      outstanding = outstanding - row.d - row.p
    end
  end
  outstanding = outstanding - room.over
  room.turns = live
  if gone[1] then
    set('over', room.over)
    set('units', room.units)
    set('arrived', room.arrived)
    set('passed', room.passed)
  end

  -- Units a turn takes, as the turns that have ended say, from what is assumed of the first.
  room.converts = room.conversion
  if measured then
    room.converts = (room.conversion * PRIOR_TURNS + room.units)
      / (PRIOR_TURNS + room.over - room.passed)
  end
  room.bound = 0
  if available > 0 then
    -- With much stock and a tiny conversion the quotient fits into no integer of a reply.
    local turns = math.floor(available / (room.converts * (1 + room.margin)))
    room.bound = math.min(PLACES_MAX, math.max(1, turns))
  end
  local drawn = room.present and (room.present == 0 or room.seed)
  if not drawn or closed or room.state ~= 'running' then
    room.outstanding = outstanding
    return sets, gone
  end
  local burst = math.max(1, room.rate * BURST_S)
  local since = room.tokens_at and math.max(0, now - room.tokens_at) or 0
  local tokens = math.min(burst, (room.tokens or 1) + since * room.rate / 1000)
  local limit = math.min(math.floor(tokens), room.bound - outstanding)
  local step, passed, place = 0, 0, room.serving
  while step < limit and place < room.joined and passed < room.vacant
    and step + passed < LOOKS_MAX do
    place = place + 1
    if is_vacant(place) then
      passed = passed + 1
    else
      step = step + 1
    end
  end
  if passed == room.vacant then -- there is no need to look at any other
    local rest = math.max(0, math.min(limit - step, room.joined - place))
    step, place = step + rest, place + rest
  end
  room.behind = step < limit and place < room.joined -- more could be called at once
  if place > room.serving then
    tokens, room.serving, outstanding = tokens - step, place, outstanding + step
    local slot, last = math.floor(now / room.slot), live[#live]
    if not last or last.slot ~= slot then
      last = { slot = slot, s = 0, a = 0, d = 0, u = 0, p = 0 }
      live[#live + 1] = last
    end
    last.s = room.serving
    set(slot .. 's', last.s)
    if passed > 0 then
      last.p, room.vacant = last.p + passed, room.vacant - passed
      set(slot .. 'p', last.p)
      set('vacant', room.vacant)
    end
    set('serving', room.serving)
  end
  -- A millisecond of a rate of six decimals adds whole billionths: nine decimals lose none of the
  -- slowest rate, however often somebody asks, and mend what sums of binary fractions are short by.
  set('tokens', string.format('%.9f', tokens))
  set('tokens_at', now)
  room.outstanding = outstanding
  return sets, gone
end
