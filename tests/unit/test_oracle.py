"""The oracle, cell by cell of the state table."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from flashsale import HoldState, Outcome, Rejected
from unit.oracle_holds import (
    NOW,
    SALE,
    T0,
    TTL,
    confirm,
    confirm_all_lines,
    confirm_part,
    confirm_too_much,
    confirmed,
    due,
    events_of,
    expired,
    extend,
    extend_not_later,
    extend_too_far,
    held,
    hold_other,
    hold_same,
    opened,
    part_confirmed,
    part_refunded,
    red,
    refund,
    refund_seen,
    refund_seen_other,
    refund_too_much,
    refunded,
    release,
    released,
    retake,
    retake_part,
    retake_too_much,
    tombstone,
    unknown,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from flashsale import Answer
    from flashsale.testing import OracleSale


class Then(NamedTuple):
    """What a cell of the table says: outcome, the hold's state, and what happens."""

    outcome: Outcome
    state: HoldState | None
    events: tuple[str, ...] = ()
    red: tuple[int, int, int] = (0, 0, 0)  # change of available, held, sold
    replayed: bool = False


O = Outcome  # noqa: E741 -- the table below is read across
HELD, CONFIRMED, RELEASED, EXPIRED, REFUNDED = HoldState
NONE = Then(O.UNKNOWN_HOLD, None)
GONE = Then(O.RELEASED, RELEASED)
GONE_AGAIN = Then(O.RELEASED, RELEASED, replayed=True)
PAID = Then(O.ALREADY_CONFIRMED, CONFIRMED)
PAID_BACK = Then(O.ALREADY_CONFIRMED, REFUNDED)
LATE = Then(O.EXPIRED, EXPIRED)
RETAKEN = Then(O.CONFIRMED, CONFIRMED, ("retaken", "confirmed"), (-3, 0, 3))
RETAKEN_PART = Then(O.CONFIRMED, CONFIRMED, ("retaken", "confirmed"), (-2, 0, 2))


def held_again(state: HoldState) -> Then:
    return Then(O.HELD, state, replayed=True)


def conflict(state: HoldState) -> Then:
    return Then(O.CONFLICT, state)


def sold_again(state: HoldState) -> Then:
    return Then(O.CONFIRMED, state, replayed=True)


def not_confirmed(state: HoldState) -> Then:
    return Then(O.NOT_CONFIRMED, state)


TABLE = {
    hold_same: {
        unknown: Then(O.HELD, HELD, ("held",), (-3, 3, 0)),
        held: held_again(HELD),
        confirmed: held_again(CONFIRMED),
        part_confirmed: held_again(CONFIRMED),
        refunded: held_again(REFUNDED),
        released: held_again(RELEASED),
        tombstone: GONE,
        expired: held_again(EXPIRED),
    },
    hold_other: {
        unknown: Then(O.HELD, HELD, ("held",), (-3, 3, 0)),
        held: conflict(HELD),
        confirmed: conflict(CONFIRMED),
        part_confirmed: conflict(CONFIRMED),
        refunded: conflict(REFUNDED),
        released: conflict(RELEASED),
        tombstone: GONE,
        expired: conflict(EXPIRED),
    },
    confirm: {
        unknown: NONE,
        held: Then(O.CONFIRMED, CONFIRMED, ("confirmed",), (0, -3, 3)),
        confirmed: sold_again(CONFIRMED),
        part_confirmed: conflict(CONFIRMED),
        part_refunded: sold_again(CONFIRMED),
        refunded: sold_again(REFUNDED),
        released: GONE,
        tombstone: GONE,
        expired: LATE,
    },
    confirm_all_lines: {
        unknown: NONE,
        held: Then(O.CONFIRMED, CONFIRMED, ("confirmed",), (0, -3, 3)),
        confirmed: sold_again(CONFIRMED),
        part_confirmed: conflict(CONFIRMED),
        refunded: sold_again(REFUNDED),
        released: GONE,
        tombstone: GONE,
        expired: LATE,
    },
    confirm_part: {
        unknown: NONE,
        held: Then(O.CONFIRMED, CONFIRMED, ("confirmed", "dropped"), (1, -3, 2)),
        confirmed: conflict(CONFIRMED),
        part_confirmed: sold_again(CONFIRMED),
        refunded: conflict(REFUNDED),
        released: GONE,
        tombstone: GONE,
        expired: LATE,
    },
    confirm_too_much: {
        unknown: NONE,
        held: Then(O.NOT_IN_HOLD, HELD),
        confirmed: conflict(CONFIRMED),
        part_confirmed: conflict(CONFIRMED),
        refunded: conflict(REFUNDED),
        released: GONE,
        tombstone: GONE,
        expired: LATE,
    },
    retake: {
        unknown: NONE,
        held: Then(O.CONFIRMED, CONFIRMED, ("confirmed",), (0, -3, 3)),
        confirmed: sold_again(CONFIRMED),
        part_confirmed: conflict(CONFIRMED),
        refunded: sold_again(REFUNDED),
        released: GONE,
        tombstone: GONE,
        expired: RETAKEN,
    },
    retake_part: {
        unknown: NONE,
        held: Then(O.CONFIRMED, CONFIRMED, ("confirmed", "dropped"), (1, -3, 2)),
        confirmed: conflict(CONFIRMED),
        part_confirmed: sold_again(CONFIRMED),
        refunded: conflict(REFUNDED),
        released: GONE,
        tombstone: GONE,
        expired: RETAKEN_PART,
    },
    retake_too_much: {
        unknown: NONE,
        held: Then(O.NOT_IN_HOLD, HELD),
        confirmed: conflict(CONFIRMED),
        released: GONE,
        tombstone: GONE,
        expired: Then(O.NOT_IN_HOLD, EXPIRED),
    },
    release: {
        unknown: Then(O.RELEASED, RELEASED, ("tombstone",)),
        held: Then(O.RELEASED, RELEASED, ("released",), (3, -3, 0)),
        confirmed: PAID,
        part_confirmed: PAID,
        refunded: PAID_BACK,
        released: GONE_AGAIN,
        tombstone: GONE_AGAIN,
        expired: LATE,
    },
    extend: {
        unknown: NONE,
        held: Then(O.EXTENDED, HELD, ("extended",)),
        confirmed: PAID,
        part_confirmed: PAID,
        refunded: PAID_BACK,
        released: GONE,
        tombstone: GONE,
        expired: LATE,
    },
    extend_too_far: {
        unknown: NONE,
        held: Then(O.DEADLINE_TOO_FAR, HELD),
        confirmed: PAID,
        refunded: PAID_BACK,
        released: GONE,
        tombstone: GONE,
        expired: LATE,
    },
    extend_not_later: {
        unknown: NONE,
        held: Then(O.EXTENDED, HELD, replayed=True),
        confirmed: PAID,
        refunded: PAID_BACK,
        released: GONE,
        tombstone: GONE,
        expired: LATE,
    },
    refund: {
        unknown: NONE,
        held: not_confirmed(HELD),
        confirmed: Then(O.REFUNDED, CONFIRMED, ("refunded",), (1, 0, -1)),
        part_confirmed: Then(O.REFUNDED, CONFIRMED, ("refunded",), (1, 0, -1)),
        part_refunded: Then(O.REFUNDED, CONFIRMED, ("refunded",), (1, 0, -1)),
        refunded: Then(O.NOT_IN_HOLD, REFUNDED),
        released: not_confirmed(RELEASED),
        tombstone: not_confirmed(RELEASED),
        expired: not_confirmed(EXPIRED),
    },
    refund_too_much: {
        unknown: NONE,
        held: not_confirmed(HELD),
        confirmed: Then(O.NOT_IN_HOLD, CONFIRMED),
        part_confirmed: Then(O.NOT_IN_HOLD, CONFIRMED),
        refunded: Then(O.NOT_IN_HOLD, REFUNDED),
        expired: not_confirmed(EXPIRED),
    },
    refund_seen: {
        part_refunded: Then(O.REFUNDED, CONFIRMED, replayed=True),
        refunded: Then(O.REFUNDED, REFUNDED, replayed=True),
    },
    refund_seen_other: {
        part_refunded: conflict(CONFIRMED),
        refunded: conflict(REFUNDED),
    },
}
CELLS = [
    pytest.param(verb, prepare, then, id=f"{verb.__name__}-{prepare.__name__}")
    for verb, row in TABLE.items()
    for prepare, then in row.items()
]


@pytest.mark.parametrize(("verb", "prepare", "then"), CELLS)
def test_a_verb_on_a_state_answers_moves_and_records_what_the_table_says(
    verb: Callable[[OracleSale], Answer], prepare: Callable[[OracleSale], None], then: Then
) -> None:
    oracle = opened()
    prepare(oracle)
    before, events, sequence = red(oracle), len(events_of(oracle)), len(oracle.entries)

    answer = verb(oracle)

    assert (answer.outcome, answer.state, answer.replayed) == (
        then.outcome,
        then.state,
        then.replayed,
    )
    assert (answer.sale, answer.buyer, answer.hold_id, answer.at_ms) == ("1111", "ann", "h", NOW)
    assert tuple(event.kind.value for event in events_of(oracle)[events:]) == then.events
    assert tuple(b - a for a, b in zip(before, red(oracle), strict=True)) == then.red
    assert len(oracle.entries) == sequence + bool(then.events)
    kept = oracle.find("ann", "h", now_ms=NOW)
    assert (kept.state if kept else None) is then.state
    oracle.check()


@pytest.mark.parametrize("verb", TABLE, ids=lambda verb: verb.__name__)
def test_a_due_hold_is_judged_as_expired_and_swept_on_the_way(
    verb: Callable[[OracleSale], Answer],
) -> None:
    due_oracle, expired_oracle = opened(), opened()
    due(due_oracle)
    expired(expired_oracle)

    assert verb(due_oracle) == verb(expired_oracle)
    assert red(due_oracle) == red(expired_oracle)
    kinds = [event.kind for event in events_of(due_oracle)]
    assert kinds == [event.kind for event in events_of(expired_oracle)]
    due_oracle.check()


def test_a_hold_is_due_at_its_deadline_and_not_a_millisecond_before() -> None:
    oracle = opened()
    held(oracle)
    assert oracle.find("ann", "h", now_ms=T0 + TTL - 1).state is HELD  # type: ignore[union-attr]
    assert oracle.find("ann", "h", now_ms=T0 + TTL).state is EXPIRED  # type: ignore[union-attr]
    assert oracle.confirm("ann", "h", now_ms=T0 + TTL - 1).outcome is O.CONFIRMED


def test_after_purge_every_verb_answers_purged() -> None:
    oracle = opened()
    held(oracle)
    oracle.confirm("ann", "h", now_ms=NOW)
    oracle.end(now_ms=NOW)
    oracle.purge(now_ms=NOW)
    answers = [verb(oracle) for verb in TABLE]
    answers += [oracle.pause(now_ms=NOW), oracle.resume(now_ms=NOW), oracle.end(now_ms=NOW)]
    answers += [oracle.restock({"red": 1}, op_id="truck", now_ms=NOW)]
    answers += [oracle.open(SALE, now_ms=NOW)]
    assert {(a.outcome, a.state, a.replayed) for a in answers} == {(O.PURGED, None, False)}
    views: list[Callable[[], object]] = [
        lambda: oracle.find("ann", "h", now_ms=NOW),
        lambda: oracle.holds_of("ann", now_ms=NOW),
        lambda: oracle.snapshot(now_ms=NOW),
        lambda: oracle.expire(now_ms=NOW),
    ]
    for view in views:
        with pytest.raises(Rejected) as rejected:
            view()
        assert rejected.value.outcome is O.PURGED
