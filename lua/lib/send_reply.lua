-- The reply of a batch: {epoch, now, deadline of a new hold, codes, details}.
local function send_reply(shard, reply)
  return {
    tonumber(shard.epoch),
    shard.now,
    shard.now + shard.ttl,
    table.concat(reply.codes),
    #reply.details > 0 and cmsgpack.pack(reply.details) or '',
  }
end
