-- Stops a batch that is empty, too large, or whose lists differ in length.
local function check_batch(buyers, ...)
  local BATCH_MAX = 1024
  local n = #buyers
  local fits = n >= 1 and n <= BATCH_MAX
  for k = 1, select('#', ...) do
    local list = select(k, ...)
    fits = fits and (not list or #list == n)
  end
  if not fits then
    error({ err = 'FLASHSALE_MALFORMED a batch has 1 to 1024 operations and lists of one length' })
  end
  return n
end
