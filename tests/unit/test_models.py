"""Values that callers make are checked when made; outcomes and answers say what they mean."""

from __future__ import annotations

import math
import pickle
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.hostile import IDENTIFIERS, QUANTITIES
from flashsale import (
    Answer,
    HoldState,
    InvalidRequest,
    Line,
    Outcome,
    Rejected,
    Sale,
    SaleState,
    Sku,
    SkuView,
    Snapshot,
    models,
)
from flashsale.models import OUTCOME_BY_CODE, SUCCESSES
from flashsale.testing import sales

RED = [Sku("red", 1)]


# --- sales and their parts ----------------------------------------------------------------


@given(sales(around_ms=1_763_900_000_000))
def test_a_sale_survives_json_and_equals_itself(sale: Sale) -> None:
    encoded = msgspec.json.encode(sale)
    assert msgspec.json.decode(encoded, type=Sale) == sale
    assert msgspec.json.encode(msgspec.json.decode(encoded, type=Sale)) == encoded


def test_the_skus_of_a_sale_are_kept_as_they_were_when_it_was_made() -> None:
    skus = [Sku("red", 1)]
    sale = Sale("1111", skus)
    skus.append(Sku("blue", 1))
    assert sale.skus == (Sku("red", 1),)
    assert hash(sale) == hash(Sale("1111", [Sku("red", 1)]))


# field, the least and the most it may be
BOUNDS = [
    ("hold_ttl_ms", 1, 2_592_000_000),
    ("limit", 1, 10**12),
    ("opens_at_ms", 10**12, 9_999_999_999_999),
    ("closes_at_ms", 10**12, 9_999_999_999_999),
    ("holds_max", 1, 64),
    ("extend_max_ms", 0, 2_592_000_000),
    ("buyers_max", 1, 10_000_000),
]


@pytest.mark.parametrize(("field", "least", "most"), BOUNDS)
def test_a_rule_of_a_sale_keeps_to_its_bounds(field: str, least: int, most: int) -> None:
    def sale(value: Any) -> Sale:
        return Sale("1111", RED, **{field: value})

    assert getattr(sale(least), field) == least
    assert getattr(sale(most), field) == most
    optional = field in ("limit", "opens_at_ms", "closes_at_ms")
    bad = [least - 1, most + 1, *(v for v in QUANTITIES.values() if type(v) is not int)]
    for value in bad:
        if value is None and optional:
            assert getattr(sale(None), field) is None
            continue
        with pytest.raises(InvalidRequest) as caught:
            sale(value)
        assert caught.value.field == field
        assert f"from {least} to {most}, not" in caught.value.rule


@pytest.mark.parametrize(
    ("opens", "closes", "good"), [(1, 2, True), (2, 2, False), (3, 2, False), (None, 0, True)]
)
def test_a_sale_closes_after_it_opens(opens: int | None, closes: int, good: bool) -> None:
    opens, closes = None if opens is None else 10**12 + opens, 10**12 + closes
    if good:
        assert Sale("1111", RED, opens_at_ms=opens, closes_at_ms=closes)
        return
    with pytest.raises(InvalidRequest, match="^closes_at_ms: must be later than opens_at_ms"):
        Sale("1111", RED, opens_at_ms=opens, closes_at_ms=closes)


@pytest.mark.parametrize(
    ("skus", "rule"),
    [
        ([], "must be 1 to 1000 skus, not 0"),
        ([Sku(f"s{n}", 1) for n in range(1_001)], "must be 1 to 1000 skus, not 1001"),
        ([Sku("red", 1), Sku("blue", 1), Sku("red", 2)], "'red' appears twice"),
        ("red", "must be a sequence of Sku, not str"),
        (None, "must be a sequence of Sku, not NoneType"),
        ({"red": 1}, "must be a sequence of Sku, not dict"),
        (["red"], "must be a sequence of Sku, not of str"),
        ((sku for sku in RED), "must be a sequence of Sku, not generator"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_the_skus_of_a_sale_are_1_to_1000_of_them_each_once(skus: Any, rule: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^skus: {rule}"):
        Sale("1111", skus)


@pytest.mark.parametrize("value", [0, 10**12])
def test_a_sku_has_from_none_to_a_trillion_units(value: int) -> None:
    assert Sku("red", value, None).stock == value
    assert Sku("red", value, 10**12).limit == 10**12


STOCKS = {n: v for n, v in QUANTITIES.items() if n not in ("zero", "2^31")}
LIMITS = {n: v for n, v in QUANTITIES.items() if n not in ("2^31", "None")}


@pytest.mark.parametrize("name", STOCKS)
def test_what_is_no_stock_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="^stock of 'red': must be .*from 0 to 1000000000000,"):
        Sku("red", STOCKS[name])


@pytest.mark.parametrize("name", LIMITS)
def test_what_is_no_limit_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="^limit of 'red': must be .*from 1 to 1000000000000,"):
        Sku("red", 1, LIMITS[name])


@pytest.mark.parametrize("name", IDENTIFIERS)
def test_what_is_no_identifier_is_refused_in_a_line(name: str) -> None:
    with pytest.raises(InvalidRequest, match="^sku: must be 1 to 64 characters"):
        Line(IDENTIFIERS[name])


@pytest.mark.parametrize("name", QUANTITIES)
def test_what_is_no_quantity_is_refused_in_a_line(name: str) -> None:
    with pytest.raises(InvalidRequest, match="^qty of 'red': must be .*from 1 to 1000000, not"):
        Line("red", QUANTITIES[name])


@pytest.mark.parametrize(
    "value", [Sale("1111", RED), RED[0], Line("red"), Answer(Outcome.HELD, "1111")], ids=repr
)
def test_models_are_frozen_hashable_and_can_be_pickled(value: Any) -> None:
    with pytest.raises(AttributeError):
        setattr(value, value.__struct_fields__[0], "other")
    assert hash(value) == hash(pickle.loads(pickle.dumps(value)))
    assert pickle.loads(pickle.dumps(value)) == value


# --- outcomes -----------------------------------------------------------------------------


def test_every_outcome_has_a_letter_of_its_own_a_word_and_a_meaning() -> None:
    assert len(OUTCOME_BY_CODE) == len(Outcome) == len({o.value for o in Outcome})
    for outcome in Outcome:
        assert outcome.value == outcome.name.lower()
        assert len(outcome.code) == 1
        assert outcome.code != "s"  # it is SOLD_OUT that may return
        assert outcome.meaning
        assert outcome.meaning[0].islower()
        assert not outcome.meaning.endswith(".")
        assert isinstance(outcome.again, bool)
        assert Outcome(outcome.value) is outcome  # type: ignore[call-arg]
        assert OUTCOME_BY_CODE[outcome.code] is outcome


def test_no_letter_of_a_state_is_that_of_another() -> None:
    assert {state.code for state in HoldState} == set("hcref")


TRYING_AGAIN_CAN_HELP = {
    "SOLD_OUT",
    "LIMIT_REACHED",
    "NOT_OPEN",
    "PAUSED",
    "CLOCK_JUMP",
    "MEMORY_FULL",
    "TRY_AGAIN",
    "BELOW_COMMITTED",
    "HOLDS_OUTSTANDING",
    "READERS_BEHIND",
    "TOO_EARLY",
    "AHEAD_OF_LIVE",
    "NO_PROOF",
    "NOT_CLOSED",
    "FROZEN",
    "CUE_OPEN",
    "WAITING",
    "NOT_ADMITTED",
}


def test_an_outcome_says_whether_trying_again_can_help() -> None:
    assert {outcome.name for outcome in Outcome if outcome.again} == TRYING_AGAIN_CAN_HELP


def test_nothing_that_succeeded_needs_to_be_tried_again() -> None:
    assert not any(outcome.again for outcome in SUCCESSES)


@pytest.mark.parametrize("outcome", Outcome, ids=lambda outcome: outcome.name)
def test_unwrap_returns_what_succeeded_and_raises_what_was_refused(outcome: Outcome) -> None:
    answer = Answer(outcome, "1111", "ann", "order-77")
    if outcome in SUCCESSES:
        assert answer.unwrap() is answer
        return
    with pytest.raises(Rejected) as rejected:
        answer.unwrap()
    assert rejected.value.outcome is outcome
    text = str(rejected.value)
    assert text == (
        f"hold 'order-77' of buyer 'ann' in sale '1111': {outcome.value} ({outcome.meaning})"
    )


def test_a_refusal_about_the_sale_names_the_sale() -> None:
    with pytest.raises(Rejected, match=r"^sale '1111': sale_unknown \(there is no such sale"):
        Answer(Outcome.SALE_UNKNOWN, "1111").unwrap()


@given(st.sampled_from(list(Outcome)))
def test_errors_survive_the_way_between_processes(outcome: Outcome) -> None:
    rejected = pickle.loads(pickle.dumps(Rejected(outcome, "sale '1111'")))
    assert (rejected.outcome, rejected.subject) == (outcome, "sale '1111'")
    invalid = pickle.loads(pickle.dumps(InvalidRequest("qty", "must be 1")))
    assert (invalid.field, invalid.rule, str(invalid)) == ("qty", "must be 1", "qty: must be 1")


def test_a_report_is_ok_when_it_lists_no_problem() -> None:
    report = models.AuditReport("1111", 1, 1, 0, 1, 1, 0, 0, ())
    assert report.ok
    assert not msgspec.structs.replace(report, problems=("something",)).ok


# --- stock that is held and not paid for --------------------------------------------------------


def view_of(available: int, held: int, sold: int, set_aside: int = 0) -> Snapshot:
    units = available + set_aside + held + sold
    sku = SkuView("red", units, available, set_aside, held, sold)
    sale = Sale("1111", [Sku("red", units)])
    return Snapshot(sale, SaleState.RUNNING, 1, 1, 1, held, None, {"red": sku})


@pytest.mark.parametrize(
    ("available", "held", "sold", "alarmed"),
    [(2, 8, 0, True), (3, 7, 0, False), (0, 10, 0, True), (0, 9, 11, False), (0, 11, 9, True)],
)
def test_the_alarm_rings_when_stock_is_held_and_not_paid_for(
    available: int, held: int, sold: int, alarmed: bool
) -> None:
    assert bool(view_of(available, held, sold).held_alarms()) is alarmed


def test_nothing_held_is_no_alarm_whatever_the_thresholds() -> None:
    assert view_of(0, 0, 0, set_aside=5).held_alarms(share=0, sold_below=1) == ()
    assert view_of(0, 0, 0, set_aside=5).skus["red"].held_share == 0.0


def test_the_alarm_names_the_sku_and_its_figures() -> None:
    (told,) = view_of(1, 9, 2).held_alarms()
    assert told == (
        "sku 'red': 90% of what is not sold is held and unpaid (9 of 10), and 2 of 12 are sold"
    )


@pytest.mark.parametrize("wrong", [-0.1, 1.1, math.nan, "1", True, None])
@pytest.mark.parametrize("field", ["share", "sold_below"])
def test_the_thresholds_of_the_alarm_are_shares(field: str, wrong: object) -> None:
    with pytest.raises(InvalidRequest, match=rf"^{field}: must be a number from 0 to 1"):
        view_of(1, 1, 1).held_alarms(**{field: wrong})
