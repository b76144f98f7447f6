"""late="retake": the stock of an expired hold is taken again because the payment came late."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flashsale import Answer, Outcome, SaleHandle
from support.lab import T0, Lab

LATE = T0 + 1_000


def expired(lab: Lab, basket: dict[str, int], **rules: object) -> SaleHandle:
    """A sale in which ann's hold "h" of this basket has expired."""
    sale = lab.open(**rules)  # type: ignore[arg-type]
    sale.hold("ann", basket, hold_id="h").unwrap()
    lab.set_time(sale, LATE)
    assert sale.expire() == 1
    return sale


def retake(sale: SaleHandle, lines: dict[str, int] | None = None) -> Answer:
    return sale.confirm("ann", "h", lines=lines, late="retake")


def test_a_retake_takes_the_stock_again_and_sells_it(lab: Lab) -> None:
    sale = expired(lab, {"red": 2, "blue": 1})
    with lab.watch(sale) as seen:
        answer = retake(sale)
    assert answer.outcome is Outcome.CONFIRMED
    assert seen.effect == "red a-2 s+2; blue a-1 s+1"
    assert seen.events == ["retaken red*2 blue*1", "confirmed red*2 blue*1"]
    hold = sale.find("ann", "h")
    assert hold is not None
    assert (hold.state.value, hold.sold) == ("confirmed", {"red": 2, "blue": 1})
    assert sale.refund("ann", "h", lines={"red": 2}, op_id="r").outcome is Outcome.REFUNDED
    assert sale.audit().ok


@pytest.mark.parametrize("missing", ["red", "blue"])
def test_a_retake_is_whole_or_nothing(lab: Lab, missing: str) -> None:
    sale = expired(lab, {"red": 2, "blue": 2}, stock={"red": 2, "blue": 2})
    sale.hold("bob", {missing: 1}, hold_id="h").unwrap()
    before = lab.dump(sale)
    answer = retake(sale)
    assert (answer.outcome, answer.may_return) == (Outcome.SOLD_OUT, True)
    assert answer.state is not None
    assert answer.state.value == "expired"
    sale.confirm("bob", "h").unwrap()
    after = lab.dump(sale)
    answer = retake(sale)
    assert (answer.outcome, answer.may_return) == (Outcome.SOLD_OUT, False)
    assert lab.dump(sale) == after != before
    assert retake(sale, {missing: 1}).outcome is Outcome.CONFIRMED
    assert sale.audit().ok


SALE_STATES: dict[str, Callable[[Lab, SaleHandle], object]] = {
    "paused": lambda lab, s: s.pause(),
    "ended": lambda lab, s: s.end(),
    "closed": lambda lab, s: lab.set_time(s, T0 + 5_000),
}


@pytest.mark.parametrize("state", SALE_STATES)
def test_a_retake_succeeds_in_a_paused_an_ended_and_a_closed_sale(lab: Lab, state: str) -> None:
    sale = expired(lab, {"red": 1}, closes_at_ms=T0 + 5_000)
    SALE_STATES[state](lab, sale)
    assert sale.hold("bob", {"red": 1}, hold_id="h").outcome is not Outcome.HELD
    assert retake(sale).outcome is Outcome.CONFIRMED


@pytest.mark.parametrize("rule", [{"limits": {"red": 2}}, {"limit": 2}], ids=["sku", "sale"])
def test_a_retake_keeps_within_the_limit(lab: Lab, rule: dict[str, object]) -> None:
    sale = expired(lab, {"red": 2}, **rule)
    sale.hold("ann", {"red": 1}, hold_id="h2").unwrap()
    before = lab.dump(sale)
    assert retake(sale).outcome is Outcome.LIMIT_REACHED
    assert lab.dump(sale) == before
    assert retake(sale, {"red": 1}).outcome is Outcome.CONFIRMED
    assert sale.hold("ann", {"red": 1}, hold_id="h3").outcome is Outcome.LIMIT_REACHED


def test_of_several_reasons_to_refuse_a_retake_the_first_answers(lab: Lab) -> None:
    sale = expired(lab, {"red": 2}, stock={"red": 2}, limits={"red": 2})
    sale.hold("ann", {"red": 1}, hold_id="h2").unwrap()
    assert retake(sale, {"red": 3}).outcome is Outcome.NOT_IN_HOLD
    assert retake(sale, {"green": 1}).outcome is Outcome.NOT_IN_HOLD
    assert retake(sale).outcome is Outcome.LIMIT_REACHED
    sale.release("ann", "h2").unwrap()
    sale.hold("bob", {"red": 1}, hold_id="h").unwrap()
    assert retake(sale).outcome is Outcome.SOLD_OUT
    sale.release("bob", "h").unwrap()
    assert retake(sale).outcome is Outcome.CONFIRMED


def test_a_retake_needs_no_free_place_in_a_full_record_or_shard(lab: Lab) -> None:
    sale = expired(lab, {"red": 1}, holds_max=1, buyers_max=1)
    assert retake(sale).outcome is Outcome.CONFIRMED


def test_retake_in_time_is_an_ordinary_confirmation(lab: Lab) -> None:
    sale = lab.open()
    sale.hold("ann", {"red": 1}, hold_id="h").unwrap()
    with lab.watch(sale) as seen:
        assert retake(sale).outcome is Outcome.CONFIRMED
    assert seen.events == ["confirmed red*1"]


def test_the_units_between_expiry_and_retake_belong_to_whoever_comes(lab: Lab) -> None:
    sale = expired(lab, {"red": 1}, stock={"red": 1})
    assert sale.hold("bob", {"red": 1}, hold_id="h").outcome is Outcome.HELD
    assert retake(sale).outcome is Outcome.SOLD_OUT
    lab.set_time(sale, LATE + 1_000)
    assert retake(sale).outcome is Outcome.CONFIRMED
    assert sale.confirm("bob", "h", late="retake").outcome is Outcome.SOLD_OUT
    assert sale.audit().ok


def test_a_late_bulk_confirmation_judges_its_holds_in_order(lab: Lab) -> None:
    sale = lab.open({"red": 3})
    answers = [sale.hold(buyer, {"red": 1}, hold_id="h") for buyer in ("ann", "bob", "cyd")]
    lab.set_time(sale, LATE)
    sale.hold("dan", {"red": 1}, hold_id="h").unwrap()
    late = sale.confirm_many(answers, late="retake")
    assert [item.outcome.name for item in late if isinstance(item, Answer)] == [
        "CONFIRMED",
        "CONFIRMED",
        "SOLD_OUT",
    ]
    refused = sale.confirm_many(answers)
    assert [item.outcome.name for item in refused if isinstance(item, Answer)] == [
        "CONFIRMED",
        "CONFIRMED",
        "EXPIRED",
    ]
    assert sale.audit().ok
