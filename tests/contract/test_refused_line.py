"""A refused basket names the first of its lines that could not be had."""

from __future__ import annotations

from typing import Any

import pytest

from flashsale import Answer, HoldRequest, Outcome, Sale, Sku
from flashsale.testing import OracleSale
from support.lab import T0, Lab

SKUS = {"zinc": 5, "red": 3, "blue": 0, "amber": 9}
"""Not in the order of their names, which is that in which a basket travels."""

REFUSED: dict[str, tuple[dict[str, int], Outcome, str]] = {
    "one line": ({"blue": 1}, Outcome.SOLD_OUT, "blue"),
    "the second": ({"zinc": 1, "red": 4}, Outcome.SOLD_OUT, "red"),
    "both": ({"blue": 1, "red": 4}, Outcome.SOLD_OUT, "red"),
    "the last": ({"amber": 10, "zinc": 1, "red": 1}, Outcome.SOLD_OUT, "amber"),
    "one line beyond its limit": ({"amber": 7}, Outcome.LIMIT_REACHED, "amber"),
    "a limit comes before stock": ({"blue": 1, "amber": 7}, Outcome.LIMIT_REACHED, "amber"),
    "one line beyond the sale's": ({"zinc": 100}, Outcome.LIMIT_REACHED, "zinc"),
    "several beyond the sale's": ({"zinc": 60, "red": 60}, Outcome.LIMIT_REACHED, ""),
    "one unknown": ({"green": 1}, Outcome.SKU_UNKNOWN, "green"),
    "the first unknown": ({"red": 1, "pink": 1, "green": 1}, Outcome.SKU_UNKNOWN, "green"),
}


def rules(limit: int | None) -> dict[str, Any]:
    return {"limits": {} if limit is None else {"amber": limit}, "limit": 100}


def rule_of(case: str) -> dict[str, Any]:
    return rules(6 if "limit" in case else None) | {"limit": 99}


@pytest.mark.parametrize("known", [False, True], ids=["a new buyer", "a known buyer"])
@pytest.mark.parametrize("case", REFUSED)
def test_the_answer_names_it(lab: Lab, case: str, known: bool) -> None:
    basket, outcome, sku = REFUSED[case]
    sale = lab.open(SKUS, **rule_of(case))
    if known:
        sale.hold("ann", {"zinc": 1}, hold_id="before").unwrap()
    answer = sale.hold("ann", basket, hold_id="h")
    assert (answer.outcome, answer.sku) == (outcome, sku)


@pytest.mark.parametrize("case", REFUSED)
def test_the_oracle_names_it_too(case: str) -> None:
    basket, outcome, sku = REFUSED[case]
    ruled = rule_of(case)
    skus = [Sku(name, units, ruled["limits"].get(name)) for name, units in SKUS.items()]
    answer = OracleSale(Sale("s", skus, limit=ruled["limit"]), now_ms=T0).hold(
        "ann", basket, hold_id="h", now_ms=T0
    )
    assert (answer.outcome, answer.sku) == (outcome, sku)


@pytest.mark.parametrize("mixed", [False, True], ids=["short way", "exact loop"])
def test_in_a_batch_each_refusal_names_its_own(lab: Lab, mixed: bool) -> None:
    """Stock runs out within the batch: some of the same basket are held, the others refused."""
    sale = lab.open({"zinc": 2, "red": 9, "blue": 1})
    requests = [HoldRequest(f"b{n}", {"red": 1, "zinc": 1}, "h") for n in range(4)]
    requests += [HoldRequest(f"c{n}", {"blue": 1, "red": 1}, "h") for n in range(2)]
    requests.append(HoldRequest("d", {"green": 1, "red": 1}, "h"))
    if mixed:
        sale.hold("b0", {"red": 1}, hold_id="before").unwrap()
    answers = [answer for answer in sale.hold_many(requests) if isinstance(answer, Answer)]
    told = [(answer.outcome.name, answer.sku) for answer in answers]
    held, lost = ("HELD", ""), ("SOLD_OUT", "zinc")
    assert told == [held, held, lost, lost, held, ("SOLD_OUT", "blue"), ("SKU_UNKNOWN", "green")]
    assert sale.audit().ok


def test_a_batch_of_one_refused_basket_names_its_line_for_everybody(lab: Lab) -> None:
    sale = lab.open({"zinc": 2, "red": 0})
    requests = [HoldRequest(f"b{n}", {"red": 1, "zinc": 1}, "h") for n in range(5)]
    assert [getattr(answer, "sku", None) for answer in sale.hold_many(requests)] == ["red"] * 5


def test_a_replay_beside_a_refusal_keeps_its_own_answer(lab: Lab) -> None:
    sale = lab.open({"zinc": 2, "red": 1})
    first = sale.hold("ann", {"red": 1, "zinc": 1}, hold_id="h").unwrap()
    again, refused = sale.hold_many(
        [HoldRequest(buyer, {"red": 1, "zinc": 1}, "h") for buyer in ("ann", "bob")]
    )
    assert isinstance(again, Answer)
    assert isinstance(refused, Answer)
    assert (again.replayed, again.deadline_ms, again.sku) == (True, first.deadline_ms, "")
    assert (refused.outcome, refused.sku, refused.state) == (Outcome.SOLD_OUT, "red", None)
    assert (refused.replayed, refused.deadline_ms) == (False, None)


@pytest.mark.parametrize("lines", [None, {"red": 1, "zinc": 1}, {"red": 1}])
def test_a_late_payment_names_the_line_that_is_gone(lab: Lab, lines: dict[str, int] | None) -> None:
    sale = lab.open({"zinc": 2, "red": 1})
    sale.hold("ann", {"red": 1, "zinc": 1}, hold_id="h").unwrap()
    lab.set_time(sale, T0 + 1_000)
    sale.hold("bob", {"red": 1}, hold_id="h").unwrap()
    late = sale.confirm("ann", "h", lines=lines, late="retake")
    assert (late.outcome, late.sku) == (Outcome.SOLD_OUT, "red")
    assert late.state is not None
    assert late.state.name == "EXPIRED"
    assert late.deadline_ms is None
