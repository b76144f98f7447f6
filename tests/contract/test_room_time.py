"""A waiting room's time: stored with every write, and worth nothing before the first is called."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from flashsale import Outcome, WaitingRoom, waiting_room
from support.cues import KEY
from support.lab import T0, Lab
from support.queues import SLOT, Hall

encode = msgspec.msgpack.encode
OPENING = T0 + 60_000


def long_ago(hall: Hall) -> int:
    """Let the sale's last write be long ago, so that the server's own clock counts; its time."""
    hall.lab.set_time(hall.sale, 1)
    return time.time_ns() // 1_000_000


WRITES: dict[str, tuple[Any, ...]] = {
    "join": (encode(["new"]), encode([[1], [1]]), b""),
    "join, back": (encode(["dan"]), encode([[1], [1]]), b""),
    "admit": (encode(["ann"]), encode([1]), encode([[0], [0], [0]])),
    "leave": (encode(["ann"]), encode([1]), encode([0])),
    "leave, waiting": (encode(["cyd"]), encode([1]), encode([0])),
    "show": (),
    "steer": ("paused", ""),
}


@pytest.mark.parametrize("write", WRITES)
def test_every_script_that_writes_stores_the_time(lab: Lab, write: str) -> None:
    hall = Hall(lab, {"red": 2})
    hall.call("ann", "bob", "cyd", "dan")
    hall.queue.leave("dan")
    if write == "admit":
        hall.queue.pause()  # which writes nothing of the room's moving on
    name, now = write.partition(",")[0], long_ago(hall)
    reply = lab.eval(f"waiting_room/{name}", hall.sale, *WRITES[write], caller_ms=now)
    assert hall.now() == reply[1] >= now


def test_opening_and_revealing_store_the_time(lab: Lab) -> None:
    sale = lab.open()
    lab.set_time(sale, 1)
    call = next(waiting_room._open(sale.id, WaitingRoom(rate_per_s=1, opens_at_ms=10**12), KEY))
    now = time.time_ns() // 1_000_000
    stored = lab.keys(sale).sale
    assert int(lab.raw.hget(stored, "now") or 0) == 1
    reply = lab.run(call, caller_ms=now)
    assert int(lab.raw.hget(stored, "now") or 0) == reply[1] >= now
    lab.raw.hset(stored, "now", 1)
    reply = lab.eval("waiting_room/reveal", sale, "ab" * 32, caller_ms=now)
    assert int(lab.raw.hget(stored, "now") or 0) == reply[1] >= now


def test_what_a_turn_wanted_in_vain_is_stored_with_the_time(lab: Lab) -> None:
    hall = Hall(lab, {"red": 2})
    hall.let_in("ann")
    hall.sale.cue("drop", at=1, cue_time_ms=T0, stock={"red": 1})
    now = long_ago(hall)
    assert hall.sale.hold("ann", {"red": 2}, hold_id="h").outcome is Outcome.SOLD_OUT
    assert hall.fields(f"{T0 // SLOT}u") == [2]
    assert hall.now() >= now


@pytest.mark.parametrize("opens_at_ms", [None, OPENING])
def test_steering_before_the_first_is_called_gathers_nothing(
    lab: Lab, opens_at_ms: int | None
) -> None:
    hall = Hall(lab, rate_per_s=100, opens_at_ms=opens_at_ms, sale={"opens_at_ms": OPENING})
    hall.crowd(9)
    hall.at(OPENING - 2_500)
    hall.queue.set_rate(50)
    assert hall.look(OPENING).serving == 1
