"""What a join costs more in a large room, beyond what any insert costs more.

A bare HSET of the same fields and values stands beside it, into as many hashes, tables as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from zlib import crc32

from flashsale import RoomView
from loadtests.targets.bench import BATCH, Command
from loadtests.targets.figures import Figure
from loadtests.targets.figures import peers as beside
from loadtests.waiting.people import PART, Hall, expect_joined, joins, names

SUBJECT = "growth"
SMALL = 1_024
_Build = Callable[[Sequence[str], int], list[Command]]
ROOMS = 64
"""Rooms of the small size that are measured together: one alone is too short for the clock."""


def measure(hall: Hall) -> list[Figure]:
    """From a thousand people to everybody: the second half of either."""
    people = hall.crowd.people // PART * PART or 2 * SMALL
    hall.say("growth: small rooms")
    small, hashes = _small(hall)
    small_hset = _small_hset(hall, hashes)
    hall.machine.empty()
    hall.say("growth: the large room")
    view = hall.open()
    large = _second_half(hall, people, lambda who, _: joins(view, who), 8)
    hall.machine.empty()
    hall.say("growth: bare HSET")
    _as_tables(hall, ["h"], hashes)
    deep = 8 * hashes  # as many people in flight
    hset = _second_half(hall, people, lambda who, at: hsets("h", who, at, hashes), deep)
    hall.machine.empty()
    ours, insert = 100 * (large / small - 1), 100 * (hset / small_hset - 1)
    return [
        Figure(
            subject=SUBJECT, name=f"growth from {SMALL:,} to {people:,} people, less a bare HSET's",
            value=ours - insert, unit="%", bound=10,
            peers=beside({"a join's own": ours, "a bare HSET's": insert}),
            note=f"join {small:.2f} → {large:.2f} µs, HSET {small_hset:.2f} → {hset:.2f} µs, "
            f"{hashes} hashes",
        )
    ]  # fmt: skip


def hsets(key: str, who: Sequence[str], first: int, hashes: int) -> list[Command]:
    """The same fields and values as a join's, 256 people in as few commands."""
    commands: list[Command] = []
    for at in range(0, len(who), BATCH):
        groups: dict[int, list[str | int]] = {}
        for number, buyer in enumerate(who[at : at + BATCH], first + at + 1):
            groups.setdefault(crc32(buyer.encode()) % hashes, []).extend((buyer, number))
        commands += [("HSET", f"{key}:{number}", *pairs) for number, pairs in groups.items()]
    return commands


def _second_half(hall: Hall, people: int, build: _Build, depth: int) -> float:
    """µs a person of the second half, so many commands in flight."""
    spent, counted = 0.0, 0
    for first in range(0, people, PART):
        who = names(min(PART, people - first), first)
        taken, replies = hall.machine.send(hall.machine.pack(build(who, first), depth))
        expect_joined(replies)
        if first + len(who) > people // 2:
            spent, counted = spent + taken, counted + len(who)
    return spent / counted


def _small(hall: Hall) -> tuple[float, int]:
    hall.machine.empty()
    views: list[RoomView] = [hall.open() for _ in range(ROOMS)]
    who, half = names(SMALL), SMALL // 2
    for part in (who[:half], who[half:]):
        packed = hall.machine.pack([command for view in views for command in joins(view, part)])
        spent, replies = hall.machine.send(packed)
        expect_joined(replies)
    return spent / half / ROOMS, views[0].room.hashes


def _small_hset(hall: Hall, hashes: int) -> float:
    hall.machine.empty()
    keys = [f"h{number}" for number in range(ROOMS)]
    _as_tables(hall, keys, hashes)
    who, half = names(SMALL), SMALL // 2
    for first, part in ((0, who[:half]), (half, who[half:])):
        commands = [command for key in keys for command in hsets(key, part, first, hashes)]
        spent, _ = hall.machine.send(hall.machine.pack(commands, 8 * hashes))
    return spent / half / ROOMS


def _as_tables(hall: Hall, keys: Sequence[str], hashes: int) -> None:
    """Make the hashes tables from the start, as a room's are, and no listpacks."""
    long = ("first", " " * 65)
    commands = [("HSET", f"{key}:{number}", *long) for key in keys for number in range(hashes)]
    hall.machine.send(hall.machine.pack(commands))
