-- A buyer's record from the list of holds that parse_record gives.
local function format_record(holds)
  local texts = {}
  for i, hold in ipairs(holds) do
    local text = hold.state .. hold.stamp .. hold.id
    local extras = ''
    if hold.moved then
      local times = hold.extends or 1
      extras = extras .. '|o' .. hold.moved .. (times > 1 and '*' .. times or '')
    end
    if hold.kept then
      extras = extras .. '|k' .. hold.kept
    end
    if hold.cue then
      extras = extras .. '|w' .. hold.cue
    end
    local refunds = hold.refunds or {}
    for k = 1, #refunds, 2 do
      extras = extras .. '|f' .. refunds[k] .. ':' .. refunds[k + 1]
    end
    if hold.basket ~= '' or extras ~= '' then
      text = text .. '|' .. hold.basket .. extras
    end
    texts[i] = text
  end
  return '1' .. table.concat(texts, ';')
end
