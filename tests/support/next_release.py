"""The release after this one, made out of this one's Lua by patching its text.

Its scripts have other digests, and its ledger entries a field `v` that this release does not
know. It has a record format 2: format 1 with the states' letters exchanged in pairs, so that
a script which does not look at the first byte takes a paid hold for an unpaid one. It reads 1
and 2, and writes what the `format` of the sale says.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from flashsale.keys import ShardKeys
from flashsale.scripts import lua_folder

LETTERS = {"h": "c", "c": "h", "r": "e", "e": "r", "f": "t", "t": "f"}

SWAP_STATES = """\
-- A record with every state's letter exchanged for its partner's, under another format byte.
local PARTNER = { h = 'c', c = 'h', r = 'e', e = 'r', f = 't', t = 'f' }
local function swap_states(record, format)
  local holds = string.gsub(string.sub(record, 2), '([^;])([^;]*)', function(state, rest)
    return PARTNER[state] .. rest
  end)
  return format .. holds
end
"""

PARSE_BOTH = """\
local function parse_record(record)
  if record and string.sub(record, 1, 1) == '2' then
    return parse_record_1(swap_states(record, '1'))
  end
  return parse_record_1(record)
end
"""

AS_TOLD = """\
-- include lib/swap_states
-- The fields {buyer, record, …} with every record in the format that the sale is written in.
local function as_told(fields)
  for k = 2, writes == '2' and #fields or 0, 2 do
    fields[k] = swap_states(fields[k], '2')
  end
  return fields
end
"""

READS_ONE = r"if sale\[1\] ~= '1' then"
READS_BOTH = "if sale[1] ~= '1' and sale[1] ~= '2' then"
RECORDS = (
    r"((?:'HSET', keys\.buyers,|write_table\(keys\.buyers, book\.buyers == 0,) (?:unpack\()?)"
    r"(records|fields)(\))"
)
ENTRY = r"(redis\.call\('XADD', keys\.ledger, [^\n]+?, )(unpack\(entry\)\))"


def write_next_release(folder: Path) -> Path:
    """Write the next release's Lua into a new folder."""
    shutil.copytree(lua_folder(), folder)
    lib, inventory = folder / "lib", folder / "inventory"

    # What a sale is written in is decided with its first read, before anything is included
    # that writes.
    shard = lib / "load_shard.lua"
    patch(shard, READS_ONE, f"writes = sale[1]\n  {READS_BOTH}")
    patch(shard, "this script reads 1'", "this script reads 1 and 2'")
    patch(shard, r"\A", "local writes = '1'\n")
    patch(inventory / "open.lua", READS_ONE, READS_BOTH)

    (lib / "swap_states.lua").write_text(SWAP_STATES, "utf-8")
    (lib / "as_told.lua").write_text(AS_TOLD, "utf-8")
    parse = lib / "parse_record.lua"
    patch(parse, r"local function parse_record\(", "local function parse_record_1(")
    patch(parse, r"\A", "-- include lib/swap_states\n")
    patch(parse, r"\Z", PARSE_BOTH)
    for path in sorted(lib.glob("*.lua")):
        source = path.read_text("utf-8")
        if writes := len(re.findall(RECORDS, source)):
            patch(path, RECORDS, r"\1as_told(\2)\3", times=writes)
            patch(path, r"\A", "-- include lib/as_told\n")
        if entries := source.count("'XADD'"):
            patch(path, ENTRY, r"\1'zz', '2', \2", times=entries)
    for path in sorted(folder.glob("*/*.lua")):
        if path.parent != lib:
            patch(path, r"\Z", "-- of the next release\n")
    return folder


def patch(path: Path, pattern: str, replacement: str, *, times: int = 1) -> None:
    """Replace a pattern; AssertionError if it is not there exactly so many times."""
    source, found = re.subn(pattern, replacement, path.read_text("utf-8"))
    assert found == times, (
        f"lua/{path.parent.name}/{path.name} has {pattern!r} {found} times, not {times}: "
        "write the next release anew for what the file says now"
    )
    path.write_text(source, "utf-8")


def tell(raw: Any, sale_id: str, record_format: int) -> None:
    """What the operator does: say in which format a sale is written from now on."""
    raw.hset(ShardKeys.of(sale_id).sale, "format", record_format)


def records_of(raw: Any, sale_id: str) -> dict[str, str]:
    """Every buyer's record, as stored."""
    stored = raw.hgetall(ShardKeys.of(sale_id).buyers)
    return {buyer.decode(): record.decode() for buyer, record in stored.items()}


def as_format_1(record: str) -> str:
    """A record in format 1, whichever it is in."""
    if record[0] == "1":
        return record
    assert record[0] == "2", record
    return "1" + ";".join(LETTERS[hold[0]] + hold[1:] for hold in record[1:].split(";"))
