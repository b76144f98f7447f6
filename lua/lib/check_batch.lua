-- Stops a batch that is empty, too large, or whose lists differ in length.
local function check_batch(buyers, ids, others)
  local BATCH_MAX = 1024
  local n = #buyers
  if n < 1 or n > BATCH_MAX or (ids and #ids ~= n) or (others and #others ~= n) then
    error({ err = 'FLASHSALE_MALFORMED a batch has 1 to 1024 operations and lists of one length' })
  end
  return n
end
