"""Every script has a worst case among the longest calls, and none of these makes many commands.

How long they take, in server CPU, is measured by `python -m loadtests.longest_calls`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flashsale.embedded import EmbeddedServer
from flashsale.scripts import lua_folder
from loadtests.longest_calls import CASES, SCRIPTS, prepared
from loadtests.longest_ground import Case, Ground

COMMANDS_MAX = 3_500
"""Of one call. They go with the records looked at, which are bounded, not with what there is."""

DONE = {
    "cue": b"c",
    "freeze": b"f",
    "publish": b"f",
    "reveal": b"g",
    "void": b"x",
    "give_back": b"=",
}
"""The code of a call that did what it is for, where one that does less may be answered, too."""

FIRST: dict[str, Case] = {}
for case in CASES:
    FIRST.setdefault(case[0], case)


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    """On a server of its own: what it counts, nobody else adds to."""
    with EmbeddedServer.start() as server:
        ground = Ground(server)
        with ground.shop, ground.raw:
            yield ground


def test_every_script_has_a_worst_case() -> None:
    files = {f"{path.parent.name}/{path.stem}" for path in lua_folder().glob("*/*.lua")}
    assert {name for name in files if not name.startswith("lib/")} == set(SCRIPTS.values())
    assert set(FIRST) == set(SCRIPTS)


@pytest.mark.parametrize("verb", FIRST)
def test_a_worst_case_does_what_was_asked_with_a_bounded_number_of_commands(
    verb: str, ground: Ground
) -> None:
    call = prepared(ground, FIRST[verb])
    ground.raw.config_resetstat()
    _, reply = ground.cost(call)
    stats = ground.raw.info("commandstats")
    ground.raw.flushall()
    assert isinstance(reply, list)
    codes = {*map(code_in, reply)}
    assert not {b"!", b"T", b"J", b"u", b"m", b"9"} & codes, reply
    assert DONE.get(verb, b"") in codes | {b""}, reply
    assert sum(stat["calls"] for stat in stats.values()) < COMMANDS_MAX, stats


def code_in(value: object) -> bytes:
    """A code, if that is what a value of a reply is."""
    return value if isinstance(value, bytes) else b""
