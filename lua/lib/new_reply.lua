-- The reply of a batch in the making: a code an operation, details where they are needed.
local function new_reply()
  return { codes = {}, details = {} }
end
