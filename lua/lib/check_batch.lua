-- Stops a batch that is empty, too large, or whose lists (up to three, or nil) differ in length.
local function check_batch(buyers, first, second, third)
  local BATCH_MAX = 1024
  local n = #buyers
  if n < 1 or n > BATCH_MAX or (first and #first ~= n) or (second and #second ~= n)
    or (third and #third ~= n) then
    error({ err = 'FLASHSALE_MALFORMED a batch has 1 to 1024 operations and lists of one length' })
  end
  return n
end
