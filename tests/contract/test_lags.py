"""Reported lags choose a cap, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashsale import ImplausibleLagWarning, InvalidRequest, LagHistogram, Outcome, Rejected
from flashsale.baskets import encode
from flashsale.limits import LAG_BUCKETS
from support.lab import Lab


def test_reports_add_up_over_calls_and_clients(lab: Lab) -> None:
    sale = lab.open()
    assert sale.lags().reports == 0
    sale.report_lags([0, 249, 250, 119_999, 120_000, 10**12])
    found = sale.report_lags([249])
    assert found == sale.lags()
    assert {n: count for n, count in enumerate(found.counts) if count} == {
        0: 3,
        1: 1,
        479: 1,
        480: 2,
    }
    assert sale.audit().problems == ()


@given(st.lists(st.integers(0, 59_999), min_size=1), st.floats(0.01, 0.99))
def test_a_cap_grants_so_many_their_lag_and_the_next_smaller_does_not(
    lags: list[int], share: float
) -> None:
    counts = [0] * LAG_BUCKETS
    for lag in lags:
        counts[lag // 250] += 1
    cap = LagHistogram(tuple(counts)).cap_for(share)
    assert sum(lag < cap for lag in lags) >= share * len(lags)
    assert sum(lag < cap - 250 for lag in lags) < share * len(lags)


def test_what_cannot_be_told_is_named(lab: Lab) -> None:
    sale = lab.open()
    with pytest.raises(InvalidRequest, match="lags: must have a plausible report"):
        sale.lags().cap_for(0.99)
    with (
        pytest.warns(ImplausibleLagWarning, match="3 of 3"),
        pytest.raises(InvalidRequest, match="lags: must have a plausible report"),
    ):
        sale.report_lags([60_000, 200_000, 200_000]).cap_for(0.99)
    for share in (0.0, 1.0, 1, "0.5"):
        with pytest.raises(InvalidRequest, match="share: must be between 0 and 1"):
            sale.lags().cap_for(share)
    for lags in ([-1], [1.5], [True], "12", None):
        with pytest.raises(InvalidRequest, match="lags_ms"):
            sale.report_lags(lags)
    with pytest.raises(InvalidRequest, match="at most 100,000 at a time"):
        sale.report_lags([1] * 100_001)
    assert sale.lags().reports == 3


def test_reports_that_no_live_stream_can_mean_move_no_cap_and_are_warned_of(lab: Lab) -> None:
    """However many somebody makes up: nobody checks them."""
    sale = lab.open()
    honest = sale.report_lags([1_400, 3_500, 6_500, 10_500] * 20)
    assert honest.cap_for(0.99) == 10_750
    forged = sale.report_lags([60_000, 119_999, 120_000, 10**12] * 100)
    with pytest.warns(ImplausibleLagWarning, match=r"400 of 480 reported lags are of 60 s or more"):
        assert forged.cap_for(0.99) == 10_750
    plausible = sale.report_lags([59_999] * 2)
    with pytest.warns(ImplausibleLagWarning):
        assert plausible.cap_for(0.99) == 60_000


def test_a_sale_that_is_not_there_has_no_lags(lab: Lab) -> None:
    with pytest.raises(Rejected) as error:
        lab.shop.sale(lab.new_id()).report_lags([1])
    assert error.value.outcome is Outcome.SALE_UNKNOWN


@pytest.mark.parametrize("counts", [[481, 1], [-1, 1], [0.5, 1], [0, 0], ["a", 1], [0]])
def test_the_script_takes_no_bucket_that_is_none(lab: Lab, counts: list[object]) -> None:
    sale = lab.open()
    reply = lab.eval("window/lags", sale, encode(counts))
    assert reply[2] == b"!"
    assert sale.lags().reports == 0
