"""To work out a place by lot takes its time: one call of a script does so for 128 of them."""

from __future__ import annotations

import msgspec
import pytest

from flashsale import Outcome, limits
from support.lab import T0, Lab
from support.queues import Hall

encode = msgspec.msgpack.encode
CROWD = 300


@pytest.fixture
def hall(lab: Lab) -> Hall:
    """300 came before the opening; it is open, and some are called."""
    hall = Hall(lab, {"red": 100}, opens_at_ms=T0 + 1_000)
    hall.crowd(CROWD)
    hall.look(T0 + 1_000)
    hall.look(T0 + 1_001)
    return hall


@pytest.mark.parametrize("verb", ["admit", "leave"])
def test_places_by_lot_beyond_what_a_call_works_out_are_left_unjudged(
    hall: Hall, verb: str
) -> None:
    names = [f"b{n}" for n in range(1, CROWD + 1)]
    where = encode([1] * CROWD)
    nothing = [0] * CROWD
    tickets = [nothing] * 3 if verb == "admit" else nothing
    looks = limits.LOOKS_MAX
    codes = hall.lab.eval(f"waiting_room/{verb}", hall.sale, encode(names), where, encode(tickets))[
        3
    ]
    assert codes[looks:] == b"." * (CROWD - looks)
    assert b"." not in codes[:looks]
    if verb == "leave":
        assert hall.fields("left") == [looks]
        assert hall.queue.leave(names[-1]).outcome is Outcome.LEFT
        assert hall.fields("left") == [looks + 1]


def test_who_joins_again_late_is_answered_in_full(hall: Hall) -> None:
    """Turns have ended: of each it has to be worked out whether theirs was among them."""
    hall.at(T0 + 100_000)
    hall.look()
    answers = hall.crowd(CROWD)
    assert [answer.buyer for answer in answers] == [f"b{n}" for n in range(1, CROWD + 1)]
    numbers = [answer.number for answer in answers]
    assert len(set(numbers)) == CROWD
    over = [n for n, number in enumerate(numbers, 1) if number != n]
    assert 0 < len(over) < CROWD
