-- The place of a number: behind those who were there at the opening it is the number itself; among
-- them it is their keyed permutation, a Feistel network over two digits of base `side` with
-- cycle-walking (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002). SHA-1 is
-- what a script can compute; here it is a pseudo-random function of a secret, not a collision-free
-- one. flashsale.shuffle is the same in Python.
local function place_of(seed, present, number)
  local ROUNDS = 14
  if number > present then
    return number
  end
  local side, value = math.ceil(math.sqrt(present)), number - 1
  side = side + side % 2 -- even, or half of all orders could not come about
  repeat
    local left, right = math.floor(value / side), value % side
    for round = 1, ROUNDS do
      local digest = redis.sha1hex(seed .. ':' .. round .. ':' .. right)
      left, right = right, (left + tonumber(string.sub(digest, 1, 10), 16)) % side
    end
    value = left * side + right
  until value < present
  return value + 1
end
