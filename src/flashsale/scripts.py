"""Finds the Lua files, puts each script together and gives it its digest.

A line `-- include lib/NAME` is replaced by that file, once a script, before its includer.
The digest of the whole text is what EVALSHA asks for, and so it is the script's version.

A server whose memory is full refuses every script that may write, as a whole. A header with a line
"FULL" gives its script a *twin*, which the server runs all the same: it touches what exists and
adds nothing but ledger entries of ends (of a hold, a cue, a sale), so what it may add is bounded by
what is there. It is the same text but for the flag and the constant `is_full`, by which the script
refuses what would grow.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path

from msgspec import Struct

from flashsale.errors import ConfigurationError

_INCLUDE = re.compile(r"^-- include (lib/[a-z_]+)\n", re.MULTILINE)
_HAS_TWIN = "\n-- FULL "
_TWIN = {
    "#!lua\n": "#!lua flags=allow-oom\n",
    "\nlocal is_full = false ": "\nlocal is_full = true ",
}


class Script(Struct, frozen=True):
    """One script as it is sent: its name ("inventory/hold"), text and SHA-1.

    when_full: its twin, for a server that has refused the script because its memory is full. (Never
    inside MULTI, where Redis 7.0 refuses it too.)
    """

    name: str
    source: str
    sha: str
    when_full: Script | None = None


def lua_folder() -> Path:
    """Where the Lua files are: in the installed package, or at the top of a checkout."""
    here = Path(__file__).resolve().parent
    for folder in (here / "lua", here.parent.parent / "lua"):
        if (folder / "lib").is_dir():
            return folder
    if not here.is_dir():
        raise ConfigurationError(
            f"flashsale cannot run from within an archive ({here}): its Lua files must be files. "
            "Install it unpacked (for a zipapp: beside it, with pip install --target)"
        )
    raise ConfigurationError(f"flashsale's Lua files are missing: expected {here / 'lua'}")


@cache
def load_all() -> None:
    """Load every script: a process that has no descriptor left can still ask for any verb."""
    for name in script_names():
        load_script(name)


@cache
def load_script(name: str) -> Script:
    """The script of a verb, e.g. "inventory/hold", with its includes in place."""
    included: set[str] = set()

    def flatten(part: str) -> str:
        text = (lua_folder() / f"{part}.lua").read_text("utf-8")

        def include(match: re.Match[str]) -> str:
            if match[1] in included:
                return ""
            included.add(match[1])
            return flatten(match[1])

        return _INCLUDE.sub(include, text)

    source = flatten(name)
    twin = _script(name, _twin_of(source)) if _HAS_TWIN in source else None
    return _script(name, source, twin)


def _script(name: str, source: str, twin: Script | None = None) -> Script:
    sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    return Script(name, source, sha, twin)


def _twin_of(source: str) -> str:
    for text, other in _TWIN.items():
        source = source.replace(text, other, 1)
    return source


def script_names() -> list[str]:
    """Every script there is, sorted."""
    top = lua_folder()
    return sorted(
        str(path.relative_to(top).with_suffix(""))
        for path in top.glob("*/*.lua")
        if path.parent.name != "lib"
    )


def write_flat(folder: Path) -> list[Path]:
    """Write every script as it is sent into a folder, for a linter or a reader."""
    written = []
    for name in script_names():
        path = folder / f"{name.replace('/', '_')}.lua"
        path.write_text(load_script(name).source, "utf-8")
        written.append(path)
    return written
