"""A live room's plan, its parity, and its picture: the parts without I/O."""

from __future__ import annotations

import random
from statistics import mean, median, pstdev

import pytest

from flashsale import InvalidRequest
from flashsale.rehearsal import LIVE_ROOM
from flashsale.rehearsal.room.parity import Draw, parity_of
from flashsale.rehearsal.room.render import ROWS, chart_lines
from flashsale.rehearsal.room.scenario import RoomPlan, is_entry, twin_of

SIZE = LIVE_ROOM.sized(rate_divisor=500)


@pytest.fixture(scope="module")
def plan() -> RoomPlan:
    return LIVE_ROOM.plan(SIZE, seed=7)


def test_the_default_run_shows_36_skus_in_6_seconds_to_a_hundredth_of_the_viewers() -> None:
    size = LIVE_ROOM.sized()
    assert (size.seconds, size.rate_divisor, size.time_factor) == (6, 100, 1)
    sale = LIVE_ROOM.sale_for(size, "evening")
    assert len(sale.skus) == 72
    assert {sku.stock for sku in sale.skus} == {100}
    assert sale.skus[1].id == twin_of(sale.skus[0].id)
    last = LIVE_ROOM.cues_at_s(size)[-1]
    assert last + LIVE_ROOM.closes_after_s() < 24


def test_too_small_a_scale_and_too_long_a_run_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="scale: leaves fewer than 8 viewers"):
        LIVE_ROOM.sized(rate_divisor=50_000)
    with pytest.raises(InvalidRequest, match="seconds: must be above 0"):
        LIVE_ROOM.sized(seconds=0)


def test_the_same_seed_lays_out_the_same_taps(plan: RoomPlan) -> None:
    again, other = LIVE_ROOM.plan(SIZE, seed=7), LIVE_ROOM.plan(SIZE, seed=8)
    assert again.plan.at_s == plan.plan.at_s
    assert again.offset_ms == plan.offset_ms
    assert other.plan.at_s != plan.plan.at_s
    assert list(plan.plan.at_s) == sorted(plan.plan.at_s)


def test_every_viewer_taps_every_sku_once_and_both_ways_at_the_same_moment(plan: RoomPlan) -> None:
    taps = plan.viewers * LIVE_ROOM.skus
    assert len(plan.plan.requests) == 2 * taps
    at: dict[int, float] = {}
    for attempt, order in enumerate(plan.plan.order):
        if plan.offset_ms[attempt] >= 0:
            assert order not in at
            at[order] = plan.plan.at_s[attempt]
    assert len(at) == 2 * taps
    for order in range(0, 2 * taps, 2):
        entry, hold = plan.plan.requests[order], plan.plan.requests[order + 1]
        assert at[order] == at[order + 1]
        assert entry.buyer == hold.buyer
        assert [twin_of(sku) for sku in entry.basket] == list(hold.basket)


def test_only_entries_are_made_too_early_and_only_by_the_eager(plan: RoomPlan) -> None:
    early = [n for n, offset in enumerate(plan.offset_ms) if offset < 0]
    assert all(is_entry(plan.plan.order[n]) for n in early)
    assert {plan.offset_ms[n] for n in early} == {-500, -1000, -1500}
    assert len(early) == pytest.approx(LIVE_ROOM.eager * plan.viewers * LIVE_ROOM.skus, rel=0.2)


def test_cohorts_have_their_shares_and_their_lags_and_positions_show_none_of_it(
    plan: RoomPlan,
) -> None:
    late: dict[int, list[float]] = {n: [] for n in range(4)}
    shown: dict[int, list[int]] = {n: [] for n in range(4)}
    for attempt, order in enumerate(plan.plan.order):
        if is_entry(order) and plan.offset_ms[attempt] >= 0:
            which = plan.cohort_of(order)
            late[which].append(plan.plan.at_s[attempt] - plan.cues_at_s[plan.cue_of(order)])
            shown[which].append(plan.offset_ms[attempt])
    for which, cohort in enumerate(LIVE_ROOM.cohorts):
        assert plan.cohort.count(which) == pytest.approx(plan.viewers * cohort.share, abs=1)
        assert median(late[which]) - 0.65 - 0.04 == pytest.approx(cohort.lag_s, rel=0.12)
        assert mean(shown[which]) == pytest.approx(750, rel=0.05)


def test_the_standard_error_is_that_of_drawing_by_lot() -> None:
    source = random.Random(3)
    taps, places = (60, 50, 30), 28
    cohort = [which for which, n in enumerate(taps) for _ in range(n)]
    ratios = []
    for _ in range(600):
        draws = []
        for _ in range(5):
            won = source.sample(cohort, places)
            draws.append(Draw(places, taps, [won.count(which) for which in range(3)]))
        found = parity_of(draws)
        assert found.ratio is not None
        ratios.append(found.ratio)
    assert pstdev(ratios) == pytest.approx(found.error, rel=0.12)
    assert mean(ratios) == pytest.approx(1, abs=0.05)
    assert found.told
    assert found.expected == pytest.approx(5 * places * 30 / 140)


@pytest.mark.parametrize(
    ("wins", "fair"), [((30, 10), True), ((33, 7), True), ((40, 0), False), ((10, 30), False)]
)
def test_parity_beyond_noise_is_named_whoever_gains(wins: tuple[int, int], fair: bool) -> None:
    found = parity_of([Draw(40, (300, 100), wins)] * 4)
    assert (found.told, found.fair) == (True, fair)


def test_parity_says_nothing_where_nobody_is_owed_enough_or_nobody_came() -> None:
    assert not parity_of([Draw(2, (3, 1), (2, 0))]).told
    assert not parity_of([Draw(5, (0, 0), (0, 0)), Draw(0, (9, 9), (0, 0))]).told
    assert parity_of([Draw(40, (300, 100), (0, 40))]).ratio is None


def test_bars_stand_side_by_side_on_one_scale_under_their_rates() -> None:
    lines = chart_lines([0.3, 0.15, 0.0], 0.3, " 12345678")
    assert len(lines) == ROWS + 1
    assert lines[0].split() == ["30.0%"]
    assert lines[-1].split() == ["8" * 11, "8" * 11, "0.0%"]
    assert sum("8" * 11 in line[16:27] for line in lines) == ROWS / 2
    assert len({len(line) for line in lines}) == 1
