from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashsale import InvalidRequest, Sale, Sku
from flashsale.rehearsal import (
    DOUBLE11,
    HOT_SKU,
    SCENARIOS,
    Crowd,
    Scenario,
    Size,
    TableCurve,
    parse_scale,
    scenario_named,
)
from flashsale.rehearsal.scenarios import PEAK_PER_S, fresh_id

MINE = Sale(
    "1111",
    [Sku("lipstick", 10_000, 2), Sku("none", 0)],
    hold_ttl_ms=600_000,
    opens_at_ms=1_763_900_000_005,
    closes_at_ms=1_763_900_000_009,
)


def test_the_default_run_shows_five_minutes_of_a_double_11_in_ten_seconds() -> None:
    size = DOUBLE11.sized()
    assert size == Size(seconds=10, rate_divisor=100, time_factor=30)
    assert str(size) == "rate 1/100, time ×30"


def test_one_hot_sku_runs_in_real_time_with_a_thousand_attempts_a_unit() -> None:
    size = HOT_SKU.sized(seconds=8)
    assert (size.time_factor, size.rate_divisor) == (1, 100)
    (sku,) = HOT_SKU.sale_for(size, "x").skus
    attempts = HOT_SKU.curve.total(8) / 100
    assert attempts / sku.stock == pytest.approx(1000, rel=0.02)


@given(st.sampled_from(list(SCENARIOS.values())), st.floats(0.5, 120))
def test_unless_told_otherwise_the_peak_is_what_two_cores_keep_up_with(
    scenario: object, seconds: float
) -> None:
    assert isinstance(scenario, type(DOUBLE11))
    size = scenario.sized(seconds=seconds)
    peak = scenario.curve.peak(seconds * size.time_factor) / size.rate_divisor
    assert peak <= PEAK_PER_S
    assert size.rate_divisor == 1 or peak > PEAK_PER_S / 2.6


def test_what_is_given_is_taken() -> None:
    size = DOUBLE11.sized(seconds=60, rate_divisor=24, time_factor=1)
    assert (size.seconds, size.rate_divisor, size.time_factor) == (60, 24, 1)


def test_the_number_of_attempts_and_the_stock_shrink_alike() -> None:
    scenario = DOUBLE11.with_sale(MINE)
    size = scenario.sized(seconds=10, rate_divisor=100, time_factor=5)
    attempts = scenario.plan(size, seed=1).offered
    assert attempts == pytest.approx(DOUBLE11.curve.total(50) / 500, rel=0.02)
    sale = scenario.sale_for(size, "run-1")
    assert [(sku.id, sku.stock, sku.limit) for sku in sale.skus] == [
        ("lipstick", 20, 2),
        ("none", 0, None),
    ]
    assert (sale.id, sale.hold_ttl_ms) == ("run-1", 120_000)
    assert (sale.opens_at_ms, sale.closes_at_ms) == (None, None)


def test_at_full_size_a_sale_of_your_own_is_not_changed() -> None:
    size = Size(seconds=1, rate_divisor=1, time_factor=1)
    sale = DOUBLE11.with_sale(MINE).sale_for(size, "run-1")
    assert [sku.stock for sku in sale.skus] == [10_000, 0]
    assert sale.hold_ttl_ms == 600_000


def test_a_curve_of_your_own_is_run_whole_at_full_rate_if_that_can_be() -> None:
    curve = TableCurve(points=((0.0, 100.0), (60.0, 5000.0)))
    size = HOT_SKU.with_curve(curve).sized()
    assert size == Size(seconds=10, rate_divisor=1, time_factor=6)


def test_the_crowd_is_as_large_as_the_curve_says_repeated_attempts_included() -> None:
    curve = TableCurve(points=((0.0, 1000.0), (10.0, 1000.0)))
    restless = Crowd(pay=1.0, press_same=0.5, press_new=0.5)
    scenario = HOT_SKU.with_curve(curve)
    for crowd in (scenario.crowd, restless):
        one = type(scenario)(name="x", about="x", curve=curve, crowd=crowd, sale=MINE, span_s=10.0)
        offered = one.plan(one.sized(), seed=7).offered
        assert offered == pytest.approx(10_000, abs=8 * math.sqrt(10_000))


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_the_same_seed_makes_the_same_surge(scenario: Scenario) -> None:
    size = scenario.sized(seconds=1, rate_divisor=1000)
    first, again, other = (scenario.plan(size, seed=seed) for seed in (9, 9, 10))
    assert (first.at_s, first.requests, first.fates) == (again.at_s, again.requests, again.fates)
    assert first.at_s != other.at_s


def test_every_share_of_a_scenario_has_a_source_or_is_known_as_assumed() -> None:
    for scenario in SCENARIOS.values():
        assert set(scenario.crowd.sources) <= set(Crowd.__struct_fields__)
        assert scenario.curve.source
    assert "256,000/s" in DOUBLE11.crowd.sources["pay"]
    assert DOUBLE11.crowd.pay + DOUBLE11.crowd.pay_slowly == pytest.approx(256 / 325, abs=0.005)


@pytest.mark.parametrize(
    ("text", "divisor"), [("1/24", 24), ("1", 1), (" 1/2.5 ", 2.5), ("1/0.5", 0.5)]
)
def test_a_scale_is_read(text: str, divisor: float) -> None:
    assert parse_scale(text) == divisor


@pytest.mark.parametrize("text", ["", "24", "1/0", "1/-2", "2/3", "1/x", "1/٣", "1/1e9", "1/"])
def test_a_scale_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="scale: must be 1/N"):
        parse_scale(text)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"seconds": 0}, "seconds"),
        ({"seconds": 86_401}, "seconds"),
        ({"seconds": math.nan}, "seconds"),
        ({"rate_divisor": 0}, "rate_divisor"),
        ({"time_factor": -1}, "time_factor"),
    ],
)
def test_a_size_that_cannot_be_is_refused(wrong: dict[str, float], field: str) -> None:
    with pytest.raises(InvalidRequest, match=f"{field}: must be above 0"):
        DOUBLE11.sized(**wrong)


def test_a_scenario_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    assert scenario_named("hot_sku") is HOT_SKU
    with pytest.raises(
        InvalidRequest, match="must be one of double11, hot_sku, live_room, waiting_room, not 'x'"
    ):
        scenario_named("x")


def test_a_run_has_an_id_of_its_own_that_is_an_identifier() -> None:
    assert fresh_id("1111", "ab12") == "1111.ab12"
    assert len(fresh_id("x" * 64, "abcd1234")) == 64
