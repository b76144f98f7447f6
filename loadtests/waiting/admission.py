"""Letting people in, and what the turn that a hold needs costs the server."""

from __future__ import annotations

import time
from collections.abc import Sequence

from flashsale import inventory, waiting_room
from loadtests.targets.bench import BASKET, Command, expect_codes
from loadtests.targets.figures import Figure
from loadtests.targets.figures import peers as beside
from loadtests.waiting.people import Hall, batched, joins, names

SUBJECT = "admission"
SAMPLE = 102_400


def measure(hall: Hall) -> list[Figure]:
    """Admissions, holds with and without a turn, and refusals of those without one."""
    count = min(SAMPLE, hall.crowd.share(1))
    hall.say(f"admissions and holds: {count:,}")
    plain, with_turn, refused, admit, per_s = _measure(hall, count)
    hall.machine.empty()
    return [
        _line("admit, server CPU", admit, {}, f"{per_s:,.0f}/s; {count:,} people called before"),
        _line("hold in a sale with admission, server CPU", with_turn, {"without": plain}),
        _line("hold refused NOT_ADMITTED, server CPU", refused, {"hold without": plain}),
    ]


def _line(name: str, value: float, others: dict[str, float], note: str = "") -> Figure:
    return Figure(
        subject=SUBJECT, name=name, value=value, unit="µs", peers=beside(others), note=note
    )


def _measure(hall: Hall, count: int) -> tuple[float, float, float, float, float]:
    hall.machine.empty()
    who = names(count)
    guarded, shut = hall.open(admission=True), hall.open(admission=True)
    for view in (guarded, shut):
        _cost(hall, joins(view, who), count, b"1")
    _call_all(hall, guarded.sale, count)
    admits = [waiting_room.admit_item(buyer, None) for buyer in who]
    admit = _cost(hall, batched(waiting_room.admit_kind(guarded), admits), count, b"4")
    with_turn = _cost(hall, _holds(guarded.sale, who), count, b"H")
    refused = _cost(hall, _holds(shut.sale, who), count, b"6")
    plain = _cost(hall, _holds(hall.machine.open(), who), count, b"H")
    return plain[0], with_turn[0], refused[0], admit[0], admit[1]


def _holds(sale: str, who: Sequence[str]) -> list[Command]:
    items = [inventory.hold_item(buyer, BASKET, "order-1", "", "") for buyer in who]
    return batched(inventory.hold_kind(sale), items)


def _cost(hall: Hall, commands: list[Command], count: int, letters: bytes) -> tuple[float, float]:
    """µs an operation, and operations a second."""
    packed = hall.machine.pack(commands)
    begun = time.perf_counter()
    spent, replies = hall.machine.send(packed)
    seconds = time.perf_counter() - begun
    expect_codes(replies, letters)
    return spent / count, count / seconds


def _call_all(hall: Hall, sale: str, count: int) -> None:
    """Let the room call everybody: its bucket fills within two seconds."""
    queue = hall.shop.sale(sale).queue
    deadline = time.monotonic() + 60
    while queue.view().serving < count:
        if time.monotonic() > deadline:
            raise RuntimeError("not everybody was called")
        time.sleep(0.05)
