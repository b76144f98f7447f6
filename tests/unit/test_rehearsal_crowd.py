from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashsale import InvalidRequest, Sku
from flashsale.rehearsal import Crowd
from flashsale.rehearsal.crowd import Fate, Plan, lay_out

SKUS = [Sku(f"sku-{n}", 10, 2) for n in range(20)]
CROWD = Crowd(
    pay=0.6,
    pay_slowly=0.1,
    cancel=0.1,
    abandon=0.2,
    think_s=10,
    extend_s=30,
    reply_lost=0.1,
    retry_after_s=4,
    press_same=0.1,
    press_new=0.1,
    press_gap_s=0.5,
    lines=(0.8, 0.2),
    quantities=(0.9, 0.1),
    taste=1.0,
)
ARRIVALS = [n / 1000 for n in range(10_000)]


def plan(crowd: Crowd = CROWD, *, seed: int = 1, time_factor: float = 10) -> Plan:
    return lay_out(crowd, ARRIVALS, SKUS, time_factor=time_factor, seed=seed)


def same(one: Plan, other: Plan) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in Plan.__struct_fields__)


def test_a_crowd_follows_from_its_seed_alone() -> None:
    assert same(plan(seed=1), plan(seed=1))
    assert not same(plan(seed=1), plan(seed=2))


def test_attempts_come_in_order_and_every_order_is_attempted() -> None:
    made = plan()
    assert all(a <= b for a, b in pairwise(made.at_s))
    assert set(made.order) == set(range(len(made.requests)))
    assert len(made.fates) == len(made.think_s) == len(made.requests)
    assert len({(one.buyer, one.hold_id) for one in made.requests}) == len(made.requests)


def test_shares_are_those_of_the_crowd() -> None:
    made = plan()
    fates = Counter(made.fates)
    orders = len(made.requests)
    shares = {Fate.PAY: 0.6, Fate.PAY_SLOWLY: 0.1, Fate.CANCEL: 0.1, Fate.ABANDON: 0.2}
    for fate, share in shares.items():
        assert fates[fate] / orders == pytest.approx(share, abs=0.03)
    assert made.offered / len(ARRIVALS) == pytest.approx(CROWD.attempts_per_buyer, abs=0.02)
    sizes = Counter(len(made.lines(order)) for order in range(orders))
    assert sizes[2] / orders == pytest.approx(0.2, abs=0.03)
    wanted = Counter(sku for order in range(orders) for sku in made.lines(order))
    assert wanted["sku-0"] / wanted["sku-1"] == pytest.approx(2, abs=0.4)
    quantities = Counter(q for order in range(orders) for q in made.lines(order).values())
    assert quantities[2] / quantities.total() == pytest.approx(0.1, abs=0.02)


def test_a_lost_reply_is_thrown_away_and_the_same_id_sent_again_later() -> None:
    made = plan()
    times = attempts_of(made)
    lost = [attempt for attempt, deaf in enumerate(made.deaf) if deaf]
    assert len(lost) / len(ARRIVALS) == pytest.approx(0.1, abs=0.02)
    for attempt in lost:
        first, second = times[made.order[attempt]]
        assert first == made.at_s[attempt]
        assert second - first == pytest.approx(0.4)


def test_who_presses_twice_sends_the_same_id_or_a_second_one_at_nearly_the_same_time() -> None:
    made = plan()
    times = attempts_of(made)
    twice = [at for order, at in times.items() if len(at) == 2]
    presses = [b - a for a, b in twice if b - a == pytest.approx(0.05)]
    assert len(presses) / len(ARRIVALS) == pytest.approx(0.1, abs=0.02)
    second = [n for n, one in enumerate(made.requests) if one.hold_id == "order-2"]
    assert len(second) / len(ARRIVALS) == pytest.approx(0.1, abs=0.02)
    for order in second:
        assert made.requests[order - 1].buyer == made.requests[order].buyer
        assert made.lines(order - 1) == made.lines(order)
        assert times[order][0] - times[order - 1][0] == pytest.approx(0.05)


def test_thinking_is_exponential_and_bounded_and_shrinks_with_time() -> None:
    made = plan()
    assert max(made.think_s) <= 4.0
    assert sum(made.think_s) / len(made.think_s) == pytest.approx(0.98, abs=0.05)
    assert made.extend_ms == 3_000


@settings(max_examples=20)
@given(st.integers(1, 5), st.integers(0, 1000))
def test_a_basket_never_names_a_sku_twice_or_one_that_is_not_there(count: int, seed: int) -> None:
    crowd = Crowd(pay=1.0, lines=(0.2, 0.2, 0.2, 0.4), taste=1.5)
    made = lay_out(crowd, ARRIVALS[:50], SKUS[:count], time_factor=1, seed=seed)
    known = {sku.id for sku in SKUS[:count]}
    for order in range(len(made.requests)):
        assert set(made.lines(order)) <= known
        assert 1 <= len(made.lines(order)) <= min(4, count)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"pay": 0.9}, "pay, pay_slowly, cancel and abandon"),
        ({"pay": 1.1}, "pay, pay_slowly, cancel and abandon"),
        ({"pay": 1.0, "cancel": -0.1, "abandon": 0.1}, "pay"),
        ({"pay": 1.0, "reply_lost": 0.6, "press_new": 0.6}, "reply_lost"),
        ({"pay": 1.0, "lines": ()}, "lines"),
        ({"pay": 1.0, "quantities": (0.5, 0.4)}, "quantities"),
        ({"pay": 1.0, "think_s": -1}, "think_s"),
        ({"pay": 1.0, "taste": float("nan")}, "taste"),
    ],
)
def test_a_crowd_that_cannot_be_is_refused(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest, match=field):
        Crowd(**wrong)


def attempts_of(made: Plan) -> dict[int, list[float]]:
    times: dict[int, list[float]] = {}
    for at, order in zip(made.at_s, made.order, strict=True):
        times.setdefault(order, []).append(at)
    return times
