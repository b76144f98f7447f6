"""restock changes allotments while the sale runs: up, down, all lines or none, once by op_id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from flashsale import Outcome, SaleHandle
from support.lab import T0, Lab


def busy(lab: Lab) -> SaleHandle:
    """Of ten red 3 are held and 2 sold; of ten blue none."""
    sale = lab.open()
    sale.hold("ann", {"red": 2}, hold_id="sold").unwrap()
    sale.confirm("ann", "sold").unwrap()
    sale.hold("bob", {"red": 3}, hold_id="held").unwrap()
    return sale


TABLE: list[tuple[dict[str, int], Outcome, str]] = [
    ({"red": 5}, Outcome.RESTOCKED, "red t+5 a+5"),
    ({"red": -5}, Outcome.RESTOCKED, "red t-5 a-5"),
    ({"red": -6}, Outcome.BELOW_COMMITTED, ""),
    ({"red": 1, "blue": -10}, Outcome.RESTOCKED, "red t+1 a+1; blue t-10 a-10"),
    ({"red": 1, "blue": -11}, Outcome.BELOW_COMMITTED, ""),
    ({"red": 1, "green": 1}, Outcome.SKU_UNKNOWN, ""),
    ({"red": 10**12 - 10}, Outcome.RESTOCKED, f"red t+{10**12 - 10} a+{10**12 - 10}"),
    ({"red": 10**12 - 9}, Outcome.STOCK_TOO_LARGE, ""),
    ({"red": -1, "blue": 10**12}, Outcome.STOCK_TOO_LARGE, ""),
]


@pytest.mark.parametrize(("changes", "outcome", "effect"), TABLE, ids=str)
def test_a_restock_changes_all_its_lines_or_none(
    lab: Lab, changes: dict[str, int], outcome: Outcome, effect: str
) -> None:
    sale = busy(lab)
    before = lab.dump(sale)
    with lab.watch(sale) as seen:
        answer = sale.restock(changes, op_id="o")
    assert (answer.outcome, answer.replayed) == (outcome, False)
    assert seen.effect == effect
    if outcome is Outcome.RESTOCKED:
        lines = " ".join(f"{sku}*{change}" for sku, change in changes.items())
        assert seen.events == [f"restocked {lines} o"]
    else:
        assert lab.dump(sale) == before
    assert sale.audit().ok


@pytest.mark.parametrize(
    ("again", "outcome"),
    [
        ({"red": 1, "blue": -1}, Outcome.RESTOCKED),
        ({"blue": -1, "red": 1}, Outcome.RESTOCKED),
        ({"red": 1}, Outcome.CONFLICT),
        ({"red": 1, "blue": -2}, Outcome.CONFLICT),
        ({"red": -1, "blue": 1}, Outcome.CONFLICT),
    ],
    ids=str,
)
def test_an_op_id_seen_before_is_replayed_or_a_conflict_and_changes_nothing(
    lab: Lab, again: Mapping[str, int], outcome: Outcome
) -> None:
    sale = lab.open()
    sale.restock({"red": 1, "blue": -1}, op_id="o").unwrap()
    lab.set_time(sale, T0 + 10)
    before = lab.dump(sale)
    answer = sale.restock(again, op_id="o")
    assert (answer.outcome, answer.replayed) == (outcome, outcome is Outcome.RESTOCKED)
    assert lab.dump(sale) == before


def test_a_refused_restock_is_not_remembered(lab: Lab) -> None:
    sale = busy(lab)
    assert sale.restock({"red": -6}, op_id="o").outcome is Outcome.BELOW_COMMITTED
    sale.release("bob", "held").unwrap()
    answer = sale.restock({"red": -6}, op_id="o")
    assert (answer.outcome, answer.replayed) == (Outcome.RESTOCKED, False)


def test_what_was_restocked_can_be_bought_and_what_was_taken_cannot(lab: Lab) -> None:
    sale = lab.open({"red": 1})
    sale.hold("ann", {"red": 1}, hold_id="h").unwrap()
    sold_out = sale.hold("bob", {"red": 2}, hold_id="h")
    assert (sold_out.outcome, sold_out.may_return) == (Outcome.SOLD_OUT, False)
    sale.restock({"red": 2}, op_id="up").unwrap()
    assert sale.hold("bob", {"red": 2}, hold_id="h").outcome is Outcome.HELD
    sale.release("bob", "h").unwrap()
    sale.restock({"red": -2}, op_id="down").unwrap()
    assert sale.hold("cyd", {"red": 1}, hold_id="h").outcome is Outcome.SOLD_OUT


@pytest.mark.parametrize("state", ["running", "paused", "ended"])
def test_a_restock_is_possible_in_every_state_of_the_sale(lab: Lab, state: str) -> None:
    sale = lab.open()
    if state != "running":
        {"paused": sale.pause, "ended": sale.end}[state]()
    assert sale.restock({"red": 1}, op_id="o").outcome is Outcome.RESTOCKED


def test_the_op_ids_of_a_sale_are_bounded(lab: Lab) -> None:
    sale = lab.open()
    sale.restock({"red": 1}, op_id="mine").unwrap()
    others: dict[Any, Any] = {f"other-{n}": "x" for n in range(9_999)}
    lab.raw.hset(lab.keys(sale).restocks, mapping=others)
    before = lab.dump(sale)
    assert sale.restock({"red": 1}, op_id="new").outcome is Outcome.TOO_MANY_RESTOCKS
    assert sale.restock({"red": 1}, op_id="mine").replayed
    assert lab.dump(sale) == before
    lab.raw.hdel(lab.keys(sale).restocks, "other-0")
    assert sale.restock({"red": 1}, op_id="new").outcome is Outcome.RESTOCKED


def test_a_thousand_skus_are_restocked_at_once(lab: Lab) -> None:
    skus = {f"sku-{n}": n for n in range(1_000)}
    sale = lab.open(skus)
    sale.restock(dict.fromkeys(skus, 7), op_id="o").unwrap()
    view = sale.snapshot().skus
    assert {sku: view[sku].available for sku in skus} == {sku: n + 7 for sku, n in skus.items()}
    assert sale.restock(dict.fromkeys(skus, -8), op_id="p").outcome is Outcome.BELOW_COMMITTED
    assert sale.audit().ok


# --- refunds by op_id ---------------------------------------------------------------------


def test_refunds_of_one_hold_are_told_apart_by_their_op_ids(lab: Lab) -> None:
    sale = lab.open()
    sale.hold("ann", {"red": 3, "blue": 1}, hold_id="h").unwrap()
    sale.confirm("ann", "h").unwrap()
    with lab.watch(sale) as seen:
        for op_id in ("r1", "r2", "r1"):
            answer = sale.refund("ann", "h", lines={"red": 1}, op_id=op_id)
            assert answer.outcome is Outcome.REFUNDED
    assert answer.replayed
    assert seen.effect == "red a+2 s-2"
    assert seen.events == ["refunded red*1 r1", "refunded red*1 r2"]


def test_the_refunds_of_a_hold_are_bounded(lab: Lab) -> None:
    sale = lab.open({"red": 100})
    sale.hold("ann", {"red": 20}, hold_id="h").unwrap()
    sale.confirm("ann", "h").unwrap()
    for n in range(16):
        sale.refund("ann", "h", lines={"red": 1}, op_id=f"r{n}").unwrap()
    before = lab.dump(sale)
    assert sale.refund("ann", "h", lines={"red": 5}, op_id="r").outcome is Outcome.NOT_IN_HOLD
    answer = sale.refund("ann", "h", lines={"red": 1}, op_id="r")
    assert answer.outcome is Outcome.TOO_MANY_REFUNDS
    assert sale.refund("ann", "h", lines={"red": 1}, op_id="r15").replayed
    assert lab.dump(sale) == before


def test_a_refund_takes_back_no_more_than_was_confirmed(lab: Lab) -> None:
    sale = lab.open()
    sale.hold("ann", {"red": 3, "blue": 1}, hold_id="h").unwrap()
    sale.confirm("ann", "h", lines={"red": 2}).unwrap()
    assert sale.refund("ann", "h", lines={"blue": 1}, op_id="r").outcome is Outcome.NOT_IN_HOLD
    assert sale.refund("ann", "h", lines={"red": 3}, op_id="r").outcome is Outcome.NOT_IN_HOLD
    answer = sale.refund("ann", "h", lines={"red": 2}, op_id="r")
    assert answer.outcome is Outcome.REFUNDED
    assert answer.state is not None
    assert answer.state.value == "refunded"
    assert sale.audit().ok
