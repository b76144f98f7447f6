"""(buyer, hold id) is a hold's identity: replays, conflicts, tombstones, references."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flashsale import (
    Answer,
    FlashSale,
    HoldRequest,
    InvalidRequest,
    Line,
    Outcome,
    SaleHandle,
    parse_ref,
)
from support.lab import T0, Lab


def test_the_same_hold_again_gives_the_first_answer_again(lab: Lab) -> None:
    sale = lab.open()
    first = sale.hold("ann", {"red": 2}, hold_id="h")
    lab.set_time(sale, T0 + 500)
    before = lab.dump(sale)
    again = sale.hold("ann", {"red": 2}, hold_id="h")
    assert (again.outcome, again.replayed) == (Outcome.HELD, True)
    assert (again.deadline_ms, again.state, again.ref) == (
        first.deadline_ms,
        first.state,
        first.ref,
    )
    assert lab.dump(sale) == before


SAME_BODY: dict[str, Callable[[SaleHandle], Answer]] = {
    "another order of lines": lambda s: s.hold("ann", {"blue": 1, "red": 2}, hold_id="h"),
    "lines as objects": lambda s: s.hold("ann", [Line("blue"), Line("red", 2)], hold_id="h"),
    "another channel": lambda s: s.hold("ann", {"red": 2, "blue": 1}, hold_id="h", channel="web"),
    "another note": lambda s: s.hold("ann", {"red": 2, "blue": 1}, hold_id="h", note="€"),
}


@pytest.mark.parametrize("body", SAME_BODY)
def test_what_does_not_count_for_a_holds_identity(lab: Lab, body: str) -> None:
    sale = lab.open()
    sale.hold("ann", {"red": 2, "blue": 1}, hold_id="h", channel="app", note="n").unwrap()
    before = lab.dump(sale)
    answer = SAME_BODY[body](sale)
    assert (answer.outcome, answer.replayed) == (Outcome.HELD, True)
    assert lab.dump(sale) == before


@pytest.mark.parametrize(
    "basket",
    [{"red": 1}, {"red": 3, "blue": 1}, {"red": 2}, {"blue": 1}, {"red": 2, "blue": 1, "green": 1}],
    ids=str,
)
def test_the_same_id_with_another_basket_is_a_conflict(lab: Lab, basket: dict[str, int]) -> None:
    sale = lab.open({"red": 10, "blue": 10, "green": 10})
    sale.hold("ann", {"red": 2, "blue": 1}, hold_id="h").unwrap()
    before = lab.dump(sale)
    assert sale.hold("ann", basket, hold_id="h").outcome is Outcome.CONFLICT
    assert lab.dump(sale) == before


def test_a_hold_id_is_unique_per_buyer_only(lab: Lab) -> None:
    sale = lab.open()
    sale.hold("ann", {"red": 1}, hold_id="h").unwrap()
    answer = sale.hold("bob", {"red": 2}, hold_id="h")
    assert (answer.outcome, answer.replayed) == (Outcome.HELD, False)
    assert sale.confirm("cyd", "h").outcome is Outcome.UNKNOWN_HOLD


@pytest.mark.parametrize("reason", ["sold out", "paused"])
def test_only_held_is_remembered_and_a_refusal_may_turn_into_it(lab: Lab, reason: str) -> None:
    sale = lab.open({"red": 1})
    if reason == "paused":
        sale.pause()
    else:
        sale.hold("bob", {"red": 1}, hold_id="h").unwrap()
    assert sale.hold("ann", {"red": 1}, hold_id="h").outcome is not Outcome.HELD
    if reason == "paused":
        sale.resume()
    else:
        sale.release("bob", "h").unwrap()
    answer = sale.hold("ann", {"red": 1}, hold_id="h")
    assert (answer.outcome, answer.replayed) == (Outcome.HELD, False)


def test_a_release_before_its_delayed_hold_keeps_the_hold_from_taking_stock(lab: Lab) -> None:
    sale = lab.open()
    assert sale.release("ann", "h").outcome is Outcome.RELEASED
    with lab.watch(sale) as seen:
        answer = sale.hold("ann", {"red": 1}, hold_id="h")
    assert (answer.outcome, answer.replayed) == (Outcome.RELEASED, False)
    assert (seen.effect, seen.events) == ("", [])
    hold = sale.find("ann", "h")
    assert hold is not None
    assert (hold.lines, hold.sold, hold.deadline_ms) == ({}, {}, None)
    assert hold.original_deadline_ms is None


def test_the_answer_is_the_same_in_every_process_at_any_time(lab: Lab, shop: FlashSale) -> None:
    sale = lab.open()
    first = sale.hold("ann", {"red": 1}, hold_id="h")
    lab.raw.script_flush()
    again = shop.sale(sale.id).hold("ann", {"red": 1}, hold_id="h")
    assert (again.outcome, again.deadline_ms) == (first.outcome, first.deadline_ms)


# --- ways to name a hold ------------------------------------------------------------------

LATER: dict[str, Callable[[SaleHandle, tuple[object, ...]], Answer]] = {
    "confirm": lambda s, hold: s.confirm(*hold),  # type: ignore[arg-type]
    "release": lambda s, hold: s.release(*hold),  # type: ignore[arg-type]
    "extend": lambda s, hold: s.extend(*hold, deadline_ms=T0 + 2_000),  # type: ignore[arg-type]
    "refund": lambda s, hold: s.refund(*hold, lines={"red": 1}, op_id="r"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("form", ["ids", "answer", "hold", "ref"])
@pytest.mark.parametrize("verb", LATER)
def test_every_verb_names_a_hold_by_ids_by_answer_by_hold_or_by_ref(
    lab: Lab, verb: str, form: str
) -> None:
    sale = lab.open()
    answer = sale.hold("ann/7@x", {"red": 1}, hold_id="order=77~_")
    hold = sale.find(answer)
    assert hold is not None
    if verb == "refund":
        sale.confirm(answer).unwrap()
    named: tuple[object, ...] = {
        "ids": ("ann/7@x", "order=77~_"),
        "answer": (answer,),
        "hold": (hold,),
        "ref": (answer.ref,),
    }[form]
    assert hold.ref == answer.ref
    assert parse_ref(answer.ref) == (sale.id, "ann/7@x", "order=77~_")
    done = LATER[verb](sale, named).unwrap()
    assert (done.buyer, done.hold_id, done.ref) == ("ann/7@x", "order=77~_", answer.ref)
    assert sale.find(*named) == sale.find("ann/7@x", "order=77~_")  # type: ignore[arg-type]


def test_a_hold_of_another_sale_is_refused(lab: Lab) -> None:
    sale, other = lab.open(), lab.open()
    answer = other.hold("ann", {"red": 1}, hold_id="h")
    hold = other.find(answer)
    before = lab.dump(sale, other)
    for named in (answer, hold, answer.ref):
        for verb in LATER.values():
            with pytest.raises(InvalidRequest, match=f"^ref: is of sale '{other.id}', not of"):
                verb(sale, (named,))
    assert lab.dump(sale, other) == before


@pytest.mark.parametrize("hold_id", ["h", "", None])
def test_an_answer_with_a_hold_id_beside_it_is_refused(lab: Lab, hold_id: str | None) -> None:
    sale = lab.open()
    answer = sale.hold("ann", {"red": 1}, hold_id="h")
    if hold_id is None:
        assert sale.confirm(answer, None).outcome is Outcome.CONFIRMED
    else:
        with pytest.raises(InvalidRequest, match="^hold_id: is already in the Answer"):
            sale.confirm(answer, hold_id)


# --- looking ------------------------------------------------------------------------------


def test_find_tells_a_holds_whole_life(lab: Lab) -> None:
    sale = lab.open()
    assert sale.find("ann", "h") is None
    sale.hold("ann", {"red": 3, "blue": 2}, hold_id="h").unwrap()
    sale.extend("ann", "h", deadline_ms=T0 + 3_000).unwrap()
    sale.confirm("ann", "h", lines={"red": 3, "blue": 1}).unwrap()
    sale.refund("ann", "h", lines={"red": 1}, op_id="r1").unwrap()
    sale.refund("ann", "h", lines={"red": 1, "blue": 1}, op_id="r2").unwrap()
    hold = sale.find("ann", "h")
    assert hold is not None
    assert (hold.sale, hold.buyer, hold.hold_id) == (sale.id, "ann", "h")
    assert hold.state.value == "confirmed"
    assert hold.lines == {"red": 3, "blue": 2}
    assert hold.sold == {"red": 1}
    assert hold.refunds == {"r1": {"red": 1}, "r2": {"red": 1, "blue": 1}}
    assert (hold.deadline_ms, hold.original_deadline_ms) == (T0 + 3_000, T0 + 1_000)


def test_holds_of_lists_a_buyers_holds_oldest_first_and_nobody_elses(lab: Lab) -> None:
    sale = lab.open()
    for hold_id in ("b", "a", "c"):
        sale.hold("ann", {"red": 1}, hold_id=hold_id).unwrap()
    sale.hold("bob", {"red": 1}, hold_id="z").unwrap()
    sale.release("ann", "t").unwrap()
    assert [hold.hold_id for hold in sale.holds_of("ann")] == ["b", "a", "c", "t"]
    assert sale.holds_of("nobody") == []


def test_looking_writes_nothing_and_shows_a_due_hold_as_expired(lab: Lab) -> None:
    sale = lab.open()
    sale.hold("ann", {"red": 1}, hold_id="h").unwrap()
    lab.set_time(sale, T0 + 999)
    assert sale.holds_of("ann")[0].state.value == "held"
    lab.set_time(sale, T0 + 1_000)
    before = lab.dump(sale)
    hold = sale.find("ann", "h")
    assert hold is not None
    assert hold.state.value == "expired"
    assert sale.holds_of("ann") == [hold]
    assert sale.snapshot().skus["red"].held == 1
    assert sale.audit().ok
    assert lab.dump(sale) == before


def test_ids_that_would_collide_if_they_were_joined_are_different_holds(lab: Lab) -> None:
    sale = lab.open()
    pairs = [("a", "b-c"), ("a-b", "c"), ("a__b", "c"), ("a", "b__c"), ("a_", "_b"), ("a", "__b")]
    answers = sale.hold_many([HoldRequest(buyer, {"red": 1}, hold) for buyer, hold in pairs])
    assert [item.outcome for item in answers if isinstance(item, Answer)] == [Outcome.HELD] * 6
    assert not any(item.replayed for item in answers if isinstance(item, Answer))
    assert len({item.ref for item in answers if isinstance(item, Answer)}) == 6
