-- Stops a call that finds something of the sale lost or unreadable. Nothing may have been written.
local function damaged(what)
  error({ err = 'FLASHSALE_DAMAGED ' .. what .. ' of this sale is lost or unreadable' })
end
