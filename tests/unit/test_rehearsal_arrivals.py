from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashsale import InvalidRequest
from flashsale.rehearsal import DOUBLE11_CURVE, RushCurve, TableCurve
from flashsale.rehearsal.arrivals import ATTEMPTS_MAX, intended_times

STEP = TableCurve(points=((0.0, 1000.0), (5.0, 1000.0), (5.001, 3000.0), (10.0, 3000.0)))


@settings(max_examples=25)
@given(
    st.sampled_from([DOUBLE11_CURVE, RushCurve(peak_per_s=1e6)]),
    st.floats(1, 20),
    st.floats(0.5, 60),
    st.integers(0, 2**32),
)
def test_times_rise_within_the_run_and_are_as_many_as_the_integral_says(
    curve: RushCurve, seconds: float, time_factor: float, seed: int
) -> None:
    divisor = curve.total(seconds * time_factor) / time_factor / 2_000
    times = intended_times(
        curve, seconds=seconds, time_factor=time_factor, rate_divisor=divisor, seed=seed
    )
    assert all(0 <= a <= b <= seconds for a, b in pairwise(times))
    assert abs(len(times) - 2_000) < 6 * math.sqrt(2_000)


def test_the_same_seed_gives_the_same_times_and_another_seed_others() -> None:
    def times(seed: int) -> list[float]:
        drawn = intended_times(STEP, seconds=10, time_factor=1, rate_divisor=10, seed=seed)
        return list(drawn)

    assert times(1) == times(1)
    assert times(1) != times(2)


def test_times_are_dense_where_the_curve_is_high() -> None:
    times = intended_times(STEP, seconds=10, time_factor=1, rate_divisor=1, seed=3)
    early = sum(at < 5 for at in times)
    assert early == pytest.approx(5_000, abs=6 * math.sqrt(5_000))
    assert len(times) - early == pytest.approx(15_000, abs=6 * math.sqrt(15_000))


def test_gaps_are_those_of_a_poisson_process() -> None:
    flat = TableCurve(points=((0.0, 1000.0), (20.0, 1000.0)))
    times = intended_times(flat, seconds=20, time_factor=1, rate_divisor=1, seed=11)
    gaps = sorted(after - before for before, after in pairwise(times))
    # The largest distance to the exponential distribution (Kolmogorov-Smirnov, 0.1 %).
    distance = max(
        abs((n + 1) / len(gaps) - (1 - math.exp(-1000 * gap))) for n, gap in enumerate(gaps)
    )
    assert distance < 1.95 / math.sqrt(len(gaps))


def test_time_factor_runs_through_more_of_the_curve_at_the_same_rate() -> None:
    # Ten seconds of the curve in five: the rates stay, the numbers halve.
    times = intended_times(STEP, seconds=5, time_factor=2, rate_divisor=1, seed=3)
    assert sum(at < 2.5 for at in times) == pytest.approx(2_500, abs=6 * math.sqrt(2_500))
    assert sum(at >= 2.5 for at in times) == pytest.approx(7_500, abs=6 * math.sqrt(7_500))


def test_a_stretch_without_arrivals_has_none() -> None:
    gap = TableCurve(
        points=((0.0, 100.0), (1.0, 100.0), (1.5, 0.0), (8.0, 0.0), (8.5, 100.0), (10.0, 100.0))
    )
    times = intended_times(gap, seconds=10, time_factor=1, rate_divisor=1, seed=5)
    assert not [at for at in times if 1.51 < at < 7.99]
    assert [at for at in times if at > 8]


def test_more_attempts_than_fit_into_memory_are_refused_with_a_scale_that_would_do() -> None:
    with pytest.raises(InvalidRequest, match=f"{ATTEMPTS_MAX:,}.*use a scale of 1/28"):
        intended_times(DOUBLE11_CURVE, seconds=300, time_factor=1, rate_divisor=1, seed=1)
    intended_times(DOUBLE11_CURVE, seconds=300, time_factor=1, rate_divisor=28_000, seed=1)
