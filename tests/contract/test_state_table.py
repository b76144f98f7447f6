"""Every cell of the state table in lua/README.md: verb × state → outcome, effect, events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from msgspec import Struct

from flashsale import Answer, Outcome, SaleHandle
from support.lab import T0, Lab

BASKET = {"red": 3, "blue": 1}
WHO = ("ann", "h1")

RULES: dict[str, Any] = {"hold_ttl_ms": 1_000, "extend_max_ms": 5_000}


# --- how a hold of red*3 blue*1, taken at T0, comes into each state -----------------------


def unknown(sale: SaleHandle) -> None:
    sale.hold("someone", {"blue": 2}, hold_id="h1")
    sale.release("ann", "another")


def held(sale: SaleHandle) -> None:
    assert sale.hold("ann", BASKET, hold_id="h1").deadline_ms == T0 + 1_000


def extended(sale: SaleHandle) -> None:
    held(sale)
    sale.extend(*WHO, deadline_ms=T0 + 3_000).unwrap()


def confirmed(sale: SaleHandle) -> None:
    held(sale)
    sale.confirm(*WHO).unwrap()


def part_confirmed(sale: SaleHandle) -> None:
    held(sale)
    sale.confirm(*WHO, lines={"red": 2}).unwrap()


def part_refunded(sale: SaleHandle) -> None:
    confirmed(sale)
    sale.refund(*WHO, lines={"red": 1}, op_id="r0").unwrap()


def refunded(sale: SaleHandle) -> None:
    confirmed(sale)
    sale.refund(*WHO, lines=BASKET, op_id="r0").unwrap()


def released(sale: SaleHandle) -> None:
    held(sale)
    sale.release(*WHO).unwrap()


def tombstone(sale: SaleHandle) -> None:
    sale.release(*WHO).unwrap()


def due(sale: SaleHandle) -> None:
    held(sale)


def expired(sale: SaleHandle) -> None:
    held(sale)


STATES: dict[str, Callable[[SaleHandle], None]] = {
    state.__name__: state
    for state in (
        unknown,
        held,
        extended,
        confirmed,
        part_confirmed,
        part_refunded,
        refunded,
        released,
        tombstone,
        expired,
        due,
    )
}
AT_MS = dict.fromkeys(STATES, T0 + 100) | {"expired": T0 + 1_000, "due": T0 + 1_000}


def prepare(lab: Lab, state: str) -> SaleHandle:
    """A sale with the hold in this state, at the moment at which the verb comes."""
    sale = lab.open(**RULES)
    STATES[state](sale)
    lab.set_time(sale, AT_MS[state])
    if state == "expired":
        assert sale.expire() == 1
    return sale


# --- the verbs ----------------------------------------------------------------------------

VERBS: dict[str, Callable[[SaleHandle], Answer]] = {
    "hold the same lines": lambda s: s.hold("ann", {"blue": 1, "red": 3}, hold_id="h1"),
    "hold other lines": lambda s: s.hold("ann", {"red": 3}, hold_id="h1"),
    "hold unknown lines": lambda s: s.hold("ann", {"green": 3}, hold_id="h1"),
    "confirm": lambda s: s.confirm(*WHO),
    "confirm all lines": lambda s: s.confirm(*WHO, lines=BASKET),
    "confirm red*2": lambda s: s.confirm(*WHO, lines={"red": 2}),
    "confirm red*4": lambda s: s.confirm(*WHO, lines={"red": 4}),
    "confirm green*1": lambda s: s.confirm(*WHO, lines={"green": 1}),
    "retake": lambda s: s.confirm(*WHO, late="retake"),
    "retake red*2": lambda s: s.confirm(*WHO, lines={"red": 2}, late="retake"),
    "retake red*4": lambda s: s.confirm(*WHO, lines={"red": 4}, late="retake"),
    "release": lambda s: s.release(*WHO),
    "extend to 2000": lambda s: s.extend(*WHO, deadline_ms=T0 + 2_000),
    "extend to 6000": lambda s: s.extend(*WHO, deadline_ms=T0 + 6_000),
    "extend to 6001": lambda s: s.extend(*WHO, deadline_ms=T0 + 6_001),
    "extend to 1000": lambda s: s.extend(*WHO, deadline_ms=T0 + 1_000),
    "extend to 0": lambda s: s.extend(*WHO, deadline_ms=T0),
    "refund red*1 as r1": lambda s: s.refund(*WHO, lines={"red": 1}, op_id="r1"),
    "refund all as r1": lambda s: s.refund(*WHO, lines=BASKET, op_id="r1"),
    "refund red*4 as r1": lambda s: s.refund(*WHO, lines={"red": 4}, op_id="r1"),
    "refund green*1 as r1": lambda s: s.refund(*WHO, lines={"green": 1}, op_id="r1"),
    "refund red*1 as r0": lambda s: s.refund(*WHO, lines={"red": 1}, op_id="r0"),
    "refund all as r0": lambda s: s.refund(*WHO, lines=BASKET, op_id="r0"),
}

# Under each verb: state(s), outcome, the hold's state after it and its deadline (milliseconds
# after T0; - where there is none), "replayed"; stock effect; ledger events. The sale's extend_max
# is 5 s and the hold's deadline 1000, or 3000 once extended.
TABLE = """
hold the same lines
  unknown           HELD held 1100          | red a-3 h+3; blue a-1 h+1 | held red*3 blue*1
  held, extended    HELD held 1000 replayed
  confirmed         HELD confirmed 1000 replayed
  part_confirmed    HELD confirmed 1000 replayed
  part_refunded     HELD confirmed 1000 replayed
  refunded          HELD refunded 1000 replayed
  released          HELD released 1000 replayed
  tombstone         RELEASED released -
  expired           HELD expired 1000 replayed
  due               HELD expired 1000 replayed | red a+3 h-3; blue a+1 h-1 | expired red*3 blue*1
hold other lines
  unknown           HELD held 1100          | red a-3 h+3 | held red*3
  held              CONFLICT held 1000
  extended          CONFLICT held 3000
  confirmed, part_confirmed, part_refunded  CONFLICT confirmed -
  refunded          CONFLICT refunded -
  released          CONFLICT released -
  tombstone         RELEASED released -
  expired           CONFLICT expired -
  due               CONFLICT expired -      | red a+3 h-3; blue a+1 h-1 | expired red*3 blue*1
hold unknown lines
  unknown           SKU_UNKNOWN - -
  held              CONFLICT held 1000
  extended          CONFLICT held 3000
  confirmed, part_confirmed, part_refunded  CONFLICT confirmed -
  refunded          CONFLICT refunded -
  released          CONFLICT released -
  tombstone         RELEASED released -
  expired           CONFLICT expired -
  due               CONFLICT expired -      | red a+3 h-3; blue a+1 h-1 | expired red*3 blue*1
confirm
  unknown           UNKNOWN_HOLD - -
  held, extended    CONFIRMED confirmed -   | red h-3 s+3; blue h-1 s+1 | confirmed red*3 blue*1
  confirmed, part_refunded  CONFIRMED confirmed - replayed
  part_confirmed    CONFLICT confirmed -
  refunded          CONFIRMED refunded - replayed
  released, tombstone  RELEASED released -
  expired           EXPIRED expired -
  due               EXPIRED expired -       | red a+3 h-3; blue a+1 h-1 | expired red*3 blue*1
confirm all lines
  unknown           UNKNOWN_HOLD - -
  held, extended    CONFIRMED confirmed -   | red h-3 s+3; blue h-1 s+1 | confirmed red*3 blue*1
  confirmed, part_refunded  CONFIRMED confirmed - replayed
  part_confirmed    CONFLICT confirmed -
  refunded          CONFIRMED refunded - replayed
  released, tombstone  RELEASED released -
  expired           EXPIRED expired -
  due               EXPIRED expired -       | red a+3 h-3; blue a+1 h-1 | expired red*3 blue*1
confirm red*2
  unknown           UNKNOWN_HOLD - -
  held, extended    CONFIRMED confirmed -   | red a+1 h-3 s+2; blue a+1 h-1 | confirmed red*2; dropped red*1 blue*1
  confirmed, part_refunded  CONFLICT confirmed -
  part_confirmed    CONFIRMED confirmed - replayed
  refunded          CONFLICT refunded -
  released, tombstone  RELEASED released -
  expired           EXPIRED expired -
  due               EXPIRED expired -       | red a+3 h-3; blue a+1 h-1 | expired red*3 blue*1
confirm red*4
  unknown           UNKNOWN_HOLD - -
  held              NOT_IN_HOLD held 1000
  extended          NOT_IN_HOLD held 3000
  confirmed, part_confirmed, part_refunded  CONFLICT confirmed -
  refunded          CONFLICT refunded -
  released, tombstone  RELEASED released -
  expired           EXPIRED expired -
  due               EXPIRED expired -       | red a+3 h-3; blue a+1 h-1 | expired red*3 blue*1
confirm green*1
  unknown           UNKNOWN_HOLD - -
  held              NOT_IN_HOLD held 1000
  extended          NOT_IN_HOLD held 3000
  confirmed, part_confirmed, part_refunded  CONFLICT confirmed -
  refunded          CONFLICT refunded -
  released, tombstone  RELEASED released -
  expired           EXPIRED expired -
  due               EXPIRED expired -       | red a+3 h-3; blue a+1 h-1 | expired red*3 blue*1
retake
  unknown           UNKNOWN_HOLD - -
  held, extended    CONFIRMED confirmed -   | red h-3 s+3; blue h-1 s+1 | confirmed red*3 blue*1
  confirmed, part_refunded  CONFIRMED confirmed - replayed
  part_confirmed    CONFLICT confirmed -
  refunded          CONFIRMED refunded - replayed
  released, tombstone  RELEASED released -
  expired           CONFIRMED confirmed -   | red a-3 s+3; blue a-1 s+1 | retaken red*3 blue*1; confirmed red*3 blue*1
  due               CONFIRMED confirmed -   | red h-3 s+3; blue h-1 s+1 | expired red*3 blue*1; retaken red*3 blue*1; confirmed red*3 blue*1
retake red*2
  unknown           UNKNOWN_HOLD - -
  held, extended    CONFIRMED confirmed -   | red a+1 h-3 s+2; blue a+1 h-1 | confirmed red*2; dropped red*1 blue*1
  confirmed, part_refunded  CONFLICT confirmed -
  part_confirmed    CONFIRMED confirmed - replayed
  refunded          CONFLICT refunded -
  released, tombstone  RELEASED released -
  expired           CONFIRMED confirmed -   | red a-2 s+2 | retaken red*2; confirmed red*2
  due               CONFIRMED confirmed -   | red a+1 h-3 s+2; blue a+1 h-1 | expired red*3 blue*1; retaken red*2; confirmed red*2
retake red*4
  unknown           UNKNOWN_HOLD - -
  held              NOT_IN_HOLD held 1000
  extended          NOT_IN_HOLD held 3000
  confirmed, part_confirmed, part_refunded  CONFLICT confirmed -
  refunded          CONFLICT refunded -
  released, tombstone  RELEASED released -
  expired           NOT_IN_HOLD expired -
  due               NOT_IN_HOLD expired -   | red a+3 h-3; blue a+1 h-1 | expired red*3 blue*1
release
  unknown           RELEASED released -     | | tombstone
  held, extended    RELEASED released -     | red a+3 h-3; blue a+1 h-1 | released red*3 blue*1
  confirmed, part_confirmed, part_refunded  ALREADY_CONFIRMED confirmed -
  refunded          ALREADY_CONFIRMED refunded -
  released, tombstone  RELEASED released - replayed
  expired           EXPIRED expired -
  due               EXPIRED expired -       | red a+3 h-3; blue a+1 h-1 | expired red*3 blue*1
extend to 2000
  unknown           UNKNOWN_HOLD - -
  held              EXTENDED held 2000      | | extended red*3 blue*1
  extended          EXTENDED held 3000 replayed
  confirmed, part_confirmed, part_refunded  ALREADY_CONFIRMED confirmed -
  refunded          ALREADY_CONFIRMED refunded -
  released, tombstone  RELEASED released -
  expired           EXPIRED expired -
  due               EXPIRED expired -       | red a+3 h-3; blue a+1 h-1 | expired red*3 blue*1
extend to 6000
  unknown           UNKNOWN_HOLD - -
  held, extended    EXTENDED held 6000      | | extended red*3 blue*1
  confirmed, part_confirmed, part_refunded  ALREADY_CONFIRMED confirmed -
  refunded          ALREADY_CONFIRMED refunded -
  released, tombstone  RELEASED released -
  expired           EXPIRED expired -
  due               EXPIRED expired -       | red a+3 h-3; blue a+1 h-1 | expired red*3 blue*1
extend to 6001
  unknown           UNKNOWN_HOLD - -
  held              DEADLINE_TOO_FAR held 1000
  extended          DEADLINE_TOO_FAR held 3000
  confirmed, part_confirmed, part_refunded  ALREADY_CONFIRMED confirmed -
  refunded          ALREADY_CONFIRMED refunded -
  released, tombstone  RELEASED released -
  expired           EXPIRED expired -
  due               EXPIRED expired -       | red a+3 h-3; blue a+1 h-1 | expired red*3 blue*1
extend to 1000
  unknown           UNKNOWN_HOLD - -
  held              EXTENDED held 1000 replayed
  extended          EXTENDED held 3000 replayed
  confirmed, part_confirmed, part_refunded  ALREADY_CONFIRMED confirmed -
  refunded          ALREADY_CONFIRMED refunded -
  released, tombstone  RELEASED released -
  expired           EXPIRED expired -
  due               EXPIRED expired -       | red a+3 h-3; blue a+1 h-1 | expired red*3 blue*1
extend to 0
  unknown           UNKNOWN_HOLD - -
  held              EXTENDED held 1000 replayed
  extended          EXTENDED held 3000 replayed
  confirmed, part_confirmed, part_refunded  ALREADY_CONFIRMED confirmed -
  refunded          ALREADY_CONFIRMED refunded -
  released, tombstone  RELEASED released -
  expired           EXPIRED expired -
  due               EXPIRED expired -       | red a+3 h-3; blue a+1 h-1 | expired red*3 blue*1
refund red*1 as r1
  unknown           UNKNOWN_HOLD - -
  held              NOT_CONFIRMED held 1000
  extended          NOT_CONFIRMED held 3000
  confirmed, part_confirmed, part_refunded  REFUNDED confirmed - | red a+1 s-1 | refunded red*1 r1
  refunded          NOT_IN_HOLD refunded -
  released, tombstone  NOT_CONFIRMED released -
  expired           NOT_CONFIRMED expired -
  due               NOT_CONFIRMED expired - | red a+3 h-3; blue a+1 h-1 | expired red*3 blue*1
refund all as r1
  unknown           UNKNOWN_HOLD - -
  held              NOT_CONFIRMED held 1000
  extended          NOT_CONFIRMED held 3000
  confirmed         REFUNDED refunded -     | red a+3 s-3; blue a+1 s-1 | refunded red*3 blue*1 r1
  part_confirmed, part_refunded  NOT_IN_HOLD confirmed -
  refunded          NOT_IN_HOLD refunded -
  released, tombstone  NOT_CONFIRMED released -
  expired           NOT_CONFIRMED expired -
  due               NOT_CONFIRMED expired - | red a+3 h-3; blue a+1 h-1 | expired red*3 blue*1
refund red*4 as r1
  unknown           UNKNOWN_HOLD - -
  held              NOT_CONFIRMED held 1000
  extended          NOT_CONFIRMED held 3000
  confirmed, part_confirmed, part_refunded  NOT_IN_HOLD confirmed -
  refunded          NOT_IN_HOLD refunded -
  released, tombstone  NOT_CONFIRMED released -
  expired           NOT_CONFIRMED expired -
  due               NOT_CONFIRMED expired - | red a+3 h-3; blue a+1 h-1 | expired red*3 blue*1
refund green*1 as r1
  unknown           UNKNOWN_HOLD - -
  held              NOT_CONFIRMED held 1000
  extended          NOT_CONFIRMED held 3000
  confirmed, part_confirmed, part_refunded  NOT_IN_HOLD confirmed -
  refunded          NOT_IN_HOLD refunded -
  released, tombstone  NOT_CONFIRMED released -
  expired           NOT_CONFIRMED expired -
  due               NOT_CONFIRMED expired - | red a+3 h-3; blue a+1 h-1 | expired red*3 blue*1
refund red*1 as r0
  unknown           UNKNOWN_HOLD - -
  held              NOT_CONFIRMED held 1000
  extended          NOT_CONFIRMED held 3000
  confirmed, part_confirmed  REFUNDED confirmed - | red a+1 s-1 | refunded red*1 r0
  part_refunded     REFUNDED confirmed - replayed
  refunded          CONFLICT refunded -
  released, tombstone  NOT_CONFIRMED released -
  expired           NOT_CONFIRMED expired -
  due               NOT_CONFIRMED expired - | red a+3 h-3; blue a+1 h-1 | expired red*3 blue*1
refund all as r0
  unknown           UNKNOWN_HOLD - -
  held              NOT_CONFIRMED held 1000
  extended          NOT_CONFIRMED held 3000
  confirmed         REFUNDED refunded -     | red a+3 s-3; blue a+1 s-1 | refunded red*3 blue*1 r0
  part_confirmed    NOT_IN_HOLD confirmed -
  part_refunded     CONFLICT confirmed -
  refunded          REFUNDED refunded - replayed
  released, tombstone  NOT_CONFIRMED released -
  expired           NOT_CONFIRMED expired -
  due               NOT_CONFIRMED expired - | red a+3 h-3; blue a+1 h-1 | expired red*3 blue*1
"""  # noqa: E501


class Cell(Struct, frozen=True):
    verb: str
    state: str
    outcome: Outcome
    state_after: str | None
    deadline_ms: int | None
    replayed: bool
    effect: str
    events: list[str]


def read_table(text: str) -> Iterator[Cell]:
    verb = ""
    for line in text.strip().splitlines():
        if not line.startswith(" "):
            verb = line
            continue
        answer, effect, events = (*(part.strip() for part in line.split("|")), "", "")[:3]
        *states, outcome, state_after, deadline = answer.removesuffix(" replayed").split()
        for state in states:
            yield Cell(
                verb,
                state.rstrip(","),
                Outcome[outcome],
                None if state_after == "-" else state_after,
                None if deadline == "-" else T0 + int(deadline),
                answer.endswith(" replayed"),
                effect,
                events.split("; ") if events else [],
            )


CELLS = list(read_table(TABLE))


def test_the_table_has_every_verb_in_every_state_once() -> None:
    assert sorted((cell.verb, cell.state) for cell in CELLS) == sorted(
        (verb, state) for verb in VERBS for state in STATES
    )


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell.verb}: {cell.state}")
def test_a_verb_in_a_state_has_the_outcome_effect_and_events_of_the_table(
    lab: Lab, cell: Cell
) -> None:
    sale = prepare(lab, cell.state)
    with lab.watch(sale) as seen:
        answer = VERBS[cell.verb](sale)
    assert (answer.sale, answer.buyer, answer.hold_id) == (sale.id, *WHO)
    assert answer.outcome is cell.outcome
    assert (answer.state and answer.state.value) == cell.state_after
    assert answer.deadline_ms == cell.deadline_ms
    assert answer.replayed is cell.replayed
    assert answer.at_ms == AT_MS[cell.state]
    assert seen.effect == cell.effect
    assert seen.events == cell.events
    # What is swept on the way may have an entry of its own; else one call writes one entry.
    swept_too = cell.state == "due" and len(cell.events) > 1
    assert seen.entries in ((1, 2) if swept_too else (min(1, len(cell.events)),))
    found = sale.find(*WHO)
    assert (found and found.state.value) == cell.state_after
    assert sale.audit().problems == ()


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell.verb}: {cell.state}")
def test_a_verb_that_was_done_is_replayed_when_it_is_repeated_and_changes_nothing(
    lab: Lab, cell: Cell
) -> None:
    sale = prepare(lab, cell.state)
    first = VERBS[cell.verb](sale)
    before = lab.dump(sale)
    again = VERBS[cell.verb](sale)
    did_it = cell.outcome.name in ("HELD", "CONFIRMED", "RELEASED", "EXTENDED", "REFUNDED")
    is_refusal = cell.outcome is Outcome.RELEASED and not cell.verb.startswith("release")
    assert again.replayed is (did_it and not is_refusal)
    if cell.verb.startswith("refund") and not again.replayed:
        assert again.outcome in (first.outcome, Outcome.NOT_IN_HOLD)
    else:
        assert again.outcome is first.outcome
        assert again.deadline_ms == first.deadline_ms
    assert again.state is first.state
    assert lab.dump(sale) == before


@pytest.mark.parametrize("state", STATES)
def test_a_sweep_expires_the_due_hold_and_no_other(lab: Lab, state: str) -> None:
    sale = prepare(lab, state)
    with lab.watch(sale) as seen:
        swept = sale.expire()
    if state == "due":
        assert (swept, seen.effect) == (1, "red a+3 h-3; blue a+1 h-1")
        assert seen.events == ["expired red*3 blue*1"]
    else:
        assert (swept, seen.effect, seen.events) == (0, "", [])


VERBS_WITHOUT_SALE = {
    **VERBS,
    "pause": lambda s: s.pause(),
    "resume": lambda s: s.resume(),
    "end": lambda s: s.end(),
    "purge": lambda s: s.purge(),
    "restock": lambda s: s.restock({"red": 1}, op_id="o"),
}


@pytest.mark.parametrize("verb", VERBS_WITHOUT_SALE)
def test_every_verb_answers_sale_unknown_where_there_is_no_sale_and_leaves_no_key(
    lab: Lab, verb: str
) -> None:
    sale = lab.shop.sale(lab.new_id())
    answer = VERBS_WITHOUT_SALE[verb](sale)
    assert (answer.outcome, answer.state, answer.deadline_ms) == (Outcome.SALE_UNKNOWN, None, None)
    assert set(lab.dump(sale).values()) == {None}


@pytest.mark.parametrize("verb", VERBS_WITHOUT_SALE)
def test_every_verb_answers_purged_for_a_purged_sale(lab: Lab, verb: str) -> None:
    sale = lab.open(**RULES)
    sale.end()
    sale.purge().unwrap()
    before = lab.dump(sale)
    answer = VERBS_WITHOUT_SALE[verb](sale)
    assert (answer.outcome, answer.state, answer.deadline_ms) == (Outcome.PURGED, None, None)
    assert answer.replayed is (verb == "purge")
    assert lab.dump(sale) == before
