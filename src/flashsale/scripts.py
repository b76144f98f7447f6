"""Finds the Lua files, puts each script together and gives it its digest.

A line `-- include lib/NAME` is replaced by that file, once a script, before its includer.
The digest of the whole text is what EVALSHA asks for, and so it is the script's version.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path

from msgspec import Struct

from flashsale.errors import ConfigurationError

_INCLUDE = re.compile(r"^-- include (lib/[a-z_]+)\n", re.MULTILINE)


class Script(Struct, frozen=True):
    """One script as it is sent: its name ("inventory/hold"), text and SHA-1."""

    name: str
    source: str
    sha: str


def lua_folder() -> Path:
    """Where the Lua files are: in the installed package, or at the top of a checkout."""
    here = Path(__file__).resolve().parent
    for folder in (here / "lua", here.parent.parent / "lua"):
        if (folder / "lib").is_dir():
            return folder
    raise ConfigurationError(f"flashsale's Lua files are missing: expected {here / 'lua'}")


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
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


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
