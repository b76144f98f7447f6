from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashsale import InvalidRequest
from flashsale.rehearsal import DOUBLE11_CURVE, RushCurve, SurgeCurve, TableCurve
from flashsale.rehearsal.published import deviation, drops, milestones, peak_years

positive = st.floats(0.01, 1e6)


@st.composite
def tables(draw: st.DrawFn) -> TableCurve:
    gaps = draw(st.lists(st.floats(0.01, 100), min_size=2, max_size=12))
    rates = draw(st.lists(st.floats(0, 1e5), min_size=len(gaps), max_size=len(gaps)))
    rates[-1] += 1.0
    start = draw(st.sampled_from([0.0, 3.5]))
    points = [(start + sum(gaps[:n]), rate) for n, rate in enumerate(rates)]
    return TableCurve(points=tuple(points))


@st.composite
def surges(draw: st.DrawFn) -> SurgeCurve:
    ramp = draw(st.floats(0.1, 100))
    return SurgeCurve(
        peak_per_s=draw(positive),
        ramp_s=ramp,
        plateau_until_s=ramp + draw(st.floats(0, 200)),
        decay=draw(st.sampled_from([0.0, 0.5, 0.78, 1.0, 2.0])),
    )


curves = st.one_of(
    surges(), tables(), st.builds(RushCurve, peak_per_s=positive, rise_s=st.floats(0.1, 50))
)


def test_the_curve_is_within_eleven_per_cent_of_all_ten_published_milestones() -> None:
    assert len(milestones()) == 10
    assert [one.second for one in milestones()] == sorted(one.second for one in milestones())
    assert max(abs(deviation(one)) for one in milestones()) <= 0.11


def test_a_curve_without_its_decay_misses_the_milestones(monkeypatch: pytest.MonkeyPatch) -> None:
    flat = SurgeCurve(peak_per_s=583_000, ramp_s=26, plateau_until_s=136, decay=0.5)
    monkeypatch.setattr("flashsale.rehearsal.published.DOUBLE11_CURVE", flat)
    from flashsale.rehearsal import published

    published._bn_yuan_per_order.cache_clear()
    try:
        assert max(abs(deviation(one)) for one in milestones()) > 0.11
    finally:
        published._bn_yuan_per_order.cache_clear()


def test_the_peak_is_the_highest_published_one_at_its_published_second() -> None:
    highest = max(peak_years(), key=lambda one: one.orders_per_s)
    assert (highest.year, highest.orders_per_s) == (2020, 583_000)
    assert highest.note == "at 00:00:26"
    assert DOUBLE11_CURVE.rate(26) == DOUBLE11_CURVE.peak(600) == highest.orders_per_s


def test_the_curve_follows_its_formula() -> None:
    peak = 583_000
    assert DOUBLE11_CURVE.rate(0) == 0
    assert DOUBLE11_CURVE.rate(13) == pytest.approx(peak / 2)
    assert DOUBLE11_CURVE.rate(136) == peak
    assert DOUBLE11_CURVE.rate(272) == pytest.approx(peak * 0.5**0.78)
    assert DOUBLE11_CURVE.total(60) == pytest.approx(27.4e6, rel=0.001)


def test_one_hot_sku_rises_as_one_minus_an_exponential() -> None:
    rush = RushCurve(peak_per_s=1000, rise_s=2)
    assert rush.rate(2) == pytest.approx(1000 * (1 - math.exp(-1)))
    assert rush.rate(60) == pytest.approx(1000)


def test_every_published_figure_names_its_source() -> None:
    sources = [one.source for one in milestones()]
    sources += [one.source for one in peak_years()]
    sources += [one.source for one in drops()]
    assert all(sources)


def test_attempts_per_unit_follow_from_the_published_drops() -> None:
    found = {one.event: one.attempts_per_unit for one in drops()}
    assert found["12306 new-year rush"] == pytest.approx(956, abs=1)
    assert found["stadium tour presale"] == 1750
    assert found["live-stream lipstick"] is None


@given(curves, st.floats(0, 500), st.floats(0, 50))
def test_total_is_the_integral_of_rate(curve: SurgeCurve, start: float, width: float) -> None:
    steps = 400
    grid = [start + width * n / steps for n in range(steps + 1)]
    low = sum(min(curve.rate(a), curve.rate(b)) * (b - a) for a, b in pairwise(grid))
    high = sum(max(curve.rate(a), curve.rate(b)) * (b - a) for a, b in pairwise(grid))
    slack = 1e-6 * curve.total(start + width) + 1e-6
    # A table may bend or begin within a cell: allow it the two cells at its highest rate.
    slack += 2 * curve.peak(start + width) * width / steps
    assert low - slack <= curve.total(start + width) - curve.total(start) <= high + slack


@given(curves, st.lists(st.floats(0, 1000), min_size=2))
def test_rates_are_never_negative_nor_above_the_peak(
    curve: SurgeCurve, seconds: list[float]
) -> None:
    for second in seconds:
        assert 0 <= curve.rate(second) <= curve.peak(second) * (1 + 1e-9)
    totals = [curve.total(second) for second in sorted(seconds)]
    rounding = 1e-12 * curve.peak(1000)
    assert all(a <= b * (1 + 1e-9) + rounding for a, b in pairwise(totals))


@given(tables())
def test_a_table_has_its_points_and_straight_lines_between_them(curve: TableCurve) -> None:
    for second, rate in curve.points:
        assert curve.rate(second) == pytest.approx(rate, abs=1e-6)
    for (left, low), (right, high) in pairwise(curve.points):
        middle = (left + right) / 2
        assert curve.rate(middle) == pytest.approx((low + high) / 2, rel=1e-6, abs=1e-6)
    assert curve.rate(curve.ends_s + 1) == 0
    assert curve.total(curve.ends_s + 1) == curve.total(curve.ends_s)


@pytest.mark.parametrize(
    ("points", "field"),
    [
        (((0.0, 1.0),), "points"),
        (((0.0, 0.0), (1.0, 0.0)), "points"),
        (((0.0, 1.0), (0.0, 1.0)), r"points\[1\], second"),
        (((2.0, 1.0), (1.0, 1.0)), r"points\[1\], second"),
        (((0.0, -1.0), (1.0, 1.0)), r"points\[0\], rate"),
        (((-1.0, 1.0), (1.0, 1.0)), r"points\[0\], second"),
        (((0.0, math.nan), (1.0, 1.0)), r"points\[0\], rate"),
        (((0.0, 1.0), (math.inf, 1.0)), r"points\[1\], second"),
    ],
)
def test_a_table_that_is_none_is_refused(
    points: tuple[tuple[float, float], ...], field: str
) -> None:
    with pytest.raises(InvalidRequest, match=field):
        TableCurve(points=points)


@pytest.mark.parametrize(
    "wrong",
    [
        {"peak_per_s": 0},
        {"peak_per_s": math.inf},
        {"ramp_s": 0},
        {"plateau_until_s": 5},
        {"decay": -1},
        {"decay": math.nan},
    ],
)
def test_a_surge_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    right: dict[str, Any] = {
        "peak_per_s": 10.0,
        "ramp_s": 10.0,
        "plateau_until_s": 20.0,
        "decay": 1.0,
    }
    (field,) = wrong
    with pytest.raises(InvalidRequest, match=field):
        SurgeCurve(**right | wrong)
