-- The basket field of an event: "" if every basket is one unit of sku 0, else msgpack of the
-- distinct texts and, if there are several, which one each hold has, from 1.
local function pack_baskets(texts)
  local first, distinct, number, which = texts[1], {}, {}, {}
  if not texts[2] then
    return first == '' and '' or cmsgpack.pack({ { first } })
  end
  for i = 1, #texts do
    local text = texts[i]
    if not number[text] then
      distinct[#distinct + 1] = text
      number[text] = #distinct
    end
    which[i] = number[text]
  end
  if #distinct == 1 then
    return first == '' and '' or cmsgpack.pack({ distinct })
  end
  return cmsgpack.pack({ distinct, which })
end
