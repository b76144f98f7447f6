"""The Lua with every command of a script looked at: none that follows a write may be able to fail.

A script's first write is the entry in the ledger, if it writes one. From any write on every command
must have arguments that no server can refuse: texts and finite numbers, so many of them as the
command takes and as `unpack` gives, on keys whose type an earlier command has proven. It can also
be torn: made to fail before a write of a number of one's own, as nothing does by itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flashsale import scripts

VALUES_MAX = 6_500
"""Of one command; `unpack` fails at 8,000."""

SEEN, TEAR = "proof:values", "proof:tear"
"""Keys of the server: the most values by script and command, and what to tear: NAME:NUMBER."""

LUA = """\
local redis = (function(server)
  local NAME, READS_ONLY = '@NAME', @READS_ONLY
  local WRITES = { HSET = 'pairs', ZADD = 'pairs', XADD = 'pairs', HDEL = 'some', ZREM = 'some',
    UNLINK = 'any', SETBIT = 'any', XTRIM = 'any', ZPOPMAX = 'any' }
  local proven, writes, tear = {}, 0, nil
  if not READS_ONLY then
    local asked = server.call('GET', 'proof:tear')
    tear = asked and tonumber(string.match(asked, '^' .. NAME .. ':(%d+)$'))
  end
  local function refuse(why, command)
    error({ err = 'PROOF ' .. NAME .. ' ' .. command .. ': ' .. why })
  end
  local function check(command, key, values)
    local n = #values
    for i = 1, values.n do
      local value = values[i]
      local is_number = type(value) == 'number' and value == value and math.abs(value) < math.huge
      if type(value) ~= 'string' and not is_number then
        refuse('value ' .. i .. ' is a ' .. type(value), command)
      end
    end
    if n > @VALUES_MAX then
      refuse(n .. ' values', command)
    end
    local rule = WRITES[command]
    local first = command == 'XADD' and 2 or 1
    local is_even = (n - first + 1) % 2 == 0 and n > first
    if (rule == 'pairs' and not is_even) or (rule == 'some' and n == 0) then
      refuse(n .. ' values are not what it takes', command)
    end
    if command == 'ZADD' then
      for i = 1, n, 2 do
        if not tonumber(values[i]) then
          refuse('a score is no number', command)
        end
      end
    end
    local after = writes > 0
    if rule then
      writes = writes + 1
    end
    if (after or (rule and command ~= 'XADD')) and not proven[key] then
      refuse('the type of ' .. key .. ' was not proven', command)
    end
    if tear and rule and writes == tear then
      refuse('torn', command)
    end
  end
  local function call(command, key, ...)
    if command == 'TIME' then
      return server.call(command)
    end
    local values = { n = select('#', ...), ... }
    check(command, key, values)
    local reply = server.call(command, key, ...)
    if command == 'EXISTS' or command == 'UNLINK' then -- the same of many keys
      for i = 1, #values do
        proven[values[i]] = true
      end
    end
    proven[key] = true
    if not READS_ONLY then
      local seen = NAME .. ' ' .. command .. (writes > 0 and ' after' or '')
      server.call('ZADD', 'proof:values', 'GT', #values, seen)
    end
    return reply
  end
  return { call = call, pcall = server.pcall, error_reply = server.error_reply,
    sha1hex = server.sha1hex }
end)(redis)
"""


def write_proven(folder: Path) -> None:
    """A copy of the Lua files in a new folder, with every script's commands looked at."""
    shutil.copytree(scripts.lua_folder(), folder)
    for path in folder.glob("*/*.lua"):
        if path.parent.name == "lib":
            continue
        first, _, rest = path.read_text("utf-8").partition("\n")
        name = f"{path.parent.name}/{path.stem}"
        lua = LUA.replace("@NAME", name).replace("@VALUES_MAX", str(VALUES_MAX))
        lua = lua.replace("@READS_ONLY", str("no-writes" in first).lower())
        path.write_text(f"{first}\n{lua}{rest}", "utf-8")


@contextmanager
def proven(folder: Path) -> Iterator[None]:
    """The library sends such scripts meanwhile; clients must be made within."""
    write_proven(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scripts, "lua_folder", lambda: folder)
        scripts.load_script.cache_clear()
        try:
            yield
        finally:
            scripts.load_script.cache_clear()


def most_values(raw: Any) -> dict[str, int]:
    """The most values that a command was given, by script, command and "after" (a write)."""
    return {name.decode(): int(n) for name, n in raw.zrange(SEEN, 0, -1, withscores=True)}
