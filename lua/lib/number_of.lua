-- The number of a place: lib/place_of the other way round.
local function number_of(seed, present, place)
  local ROUNDS = 14
  if place > present then
    return place
  end
  local side, value = math.ceil(math.sqrt(present)), place - 1
  side = side + side % 2
  repeat
    local left, right = math.floor(value / side), value % side
    for round = ROUNDS, 1, -1 do
      local digest = redis.sha1hex(seed .. ':' .. round .. ':' .. left)
      left, right = (right - tonumber(string.sub(digest, 1, 10), 16)) % side, left
    end
    value = left * side + right
  until value < present
  return value + 1
end
