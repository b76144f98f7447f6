"""A small battery of checks on a real server: what `test_mutations` sees fail or pass.

Most of it is a seeded run of the oracle against the engine in a sale whose time stands still
and moves when the run says so. A few scenarios are added for what such a run meets too seldom.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import redis

from faults.checks import books_are_right, events_of
from flashsale import Answer, Event, FlashSale, HoldRequest, Outcome, Sale, Sku, StoreUnavailable
from flashsale.keys import ShardKeys
from flashsale.testing import OracleSale
from support.lab import T0

TTL_MS = 1_000
STEPS = 300
SEEDS = (1, 2, 3, 4)
ONE = {"red": 1}
BASKETS = (ONE, ONE, {"red": 2}, {"red": 1, "blue": 1}, {"blue": 3})


class Battery:
    """Runs the checks; an AssertionError or an error of the library is a failure."""

    def __init__(self, shop: FlashSale, raw: redis.Redis) -> None:
        self._shop, self._raw = shop, raw
        self._number = 0

    def run(self) -> None:
        self.a_swept_shard_keeps_deadlines_for_those_it_has_not_reached()
        self.stock_that_fell_due_is_sold_again()
        self.an_extended_hold_outlives_its_first_deadline()
        self.an_extended_hold_outlives_its_buyers_other_one()
        self.a_sweep_that_stops_within_an_entry_goes_on_there()
        self.all_that_is_due_may_be_waited_for()
        self.a_buyer_has_no_more_than_the_limits()
        self.a_hold_of_somebody_new_sweeps_on_its_way()
        self.a_hold_that_comes_twice_in_a_batch_ends_once()
        self.an_id_that_reads_like_a_record_is_none()
        for seed in SEEDS:
            OracleRun(self, random.Random(seed)).run()
        self.with_memory_full_nothing_new_is_kept()
        self.a_slow_clock_allows_nothing()

    def open(self, *skus: Sku, **rules: Any) -> Any:
        self._number += 1
        sale = self._shop.open(Sale(f"battery-{self._number}", skus, TTL_MS, **rules))
        self.set_time(sale.id, T0)
        return sale

    def set_time(self, sale_id: str, at_ms: int) -> None:
        self._raw.hset(ShardKeys.of(sale_id).sale, "now", str(at_ms))

    def a_swept_shard_keeps_deadlines_for_those_it_has_not_reached(self) -> None:
        sale = self.open(Sku("red", 1_000))
        sale.hold_many([HoldRequest(f"crowd-{n}", ONE, "h") for n in range(200)])
        for buyer in ("ann", "bob", "cyd"):
            sale.hold(buyer, ONE, hold_id="h").unwrap()
        self.set_time(sale.id, T0 + TTL_MS)
        assert sale.confirm("cyd", "h").outcome is Outcome.EXPIRED
        assert sale.hold("bob", ONE, hold_id="h").state.value == "expired"
        assert sale.release("ann", "h").outcome is Outcome.EXPIRED
        books_are_right(sale)

    def stock_that_fell_due_is_sold_again(self) -> None:
        sale = self.open(Sku("red", 2))
        sale.hold("ann", ONE, hold_id="h").unwrap()
        sale.hold("bob", {"red": 1}, hold_id="h").unwrap()
        assert sale.hold("cyd", ONE, hold_id="h").outcome is Outcome.SOLD_OUT
        self.set_time(sale.id, T0 + TTL_MS)
        assert sale.hold("dan", ONE, hold_id="h", timeout_ms=500).outcome is Outcome.HELD
        books_are_right(sale)

    def an_extended_hold_outlives_its_first_deadline(self) -> None:
        sale = self.open(Sku("red", 2))
        held = sale.hold("ann", ONE, hold_id="h").unwrap()
        sale.extend(held, deadline_ms=held.deadline_ms + TTL_MS).unwrap()
        self.set_time(sale.id, T0 + TTL_MS)
        assert sale.expire() == 0
        assert sale.confirm(held).outcome is Outcome.CONFIRMED
        books_are_right(sale)

    def an_extended_hold_outlives_its_buyers_other_one(self) -> None:
        sale = self.open(Sku("red", 2))
        sale.hold("ann", ONE, hold_id="due").unwrap()
        held = sale.hold("ann", ONE, hold_id="h").unwrap()
        sale.extend(held, deadline_ms=held.deadline_ms + TTL_MS).unwrap()
        self.set_time(sale.id, T0 + TTL_MS)
        assert sale.expire() == 1
        assert sale.confirm(held).outcome is Outcome.CONFIRMED
        books_are_right(sale)

    def a_sweep_that_stops_within_an_entry_goes_on_there(self) -> None:
        sale = self.open(Sku("red", 6))
        for hold_id in ("1", "2"):
            sale.hold_many([HoldRequest(f"b{n}", ONE, hold_id) for n in range(3)])
        self.set_time(sale.id, T0 + TTL_MS)
        assert [sale.expire(1) for _ in range(6)] == [1] * 6
        assert sale.snapshot().skus["red"].available == 6
        books_are_right(sale)

    def all_that_is_due_may_be_waited_for(self) -> None:
        sale = self.open(Sku("red", 600))
        sale.hold_many([HoldRequest(f"b{n}", ONE, "h") for n in range(600)])
        self.set_time(sale.id, T0 + TTL_MS)
        answer = sale.hold("new", {"red": 600}, hold_id="h", timeout_ms=2_000)
        assert answer.outcome is Outcome.HELD
        books_are_right(sale)

    def a_buyer_has_no_more_than_the_limits(self) -> None:
        sale = self.open(Sku("red", 50, limit=2), Sku("blue", 50), limit=4)
        for basket in ({"red": 3}, {"blue": 5}, {"red": 2, "blue": 3}):
            assert sale.hold("new", basket, hold_id="h").outcome is Outcome.LIMIT_REACHED
        sale.hold("ann", {"red": 2}, hold_id="h1").unwrap()
        for basket in ({"red": 1}, {"blue": 3}):
            assert sale.hold("ann", basket, hold_id="h2").outcome is Outcome.LIMIT_REACHED
        sale.hold("ann", {"blue": 2}, hold_id="h2").unwrap()
        answers = sale.hold_many([HoldRequest("bob", ONE, f"h{n}") for n in range(4)])
        assert [answer.outcome.code for answer in answers] == ["H", "H", "L", "L"]
        books_are_right(sale)

    def a_hold_of_somebody_new_sweeps_on_its_way(self) -> None:
        sale = self.open(Sku("red", 50))
        sale.hold("ann", ONE, hold_id="h").unwrap()
        self.set_time(sale.id, T0 + TTL_MS)
        sale.hold("bob", ONE, hold_id="h").unwrap()
        assert sale.snapshot().skus["red"].held == 1

    def a_hold_that_comes_twice_in_a_batch_ends_once(self) -> None:
        sale = self.open(Sku("red", 50))
        held = [sale.hold(buyer, ONE, hold_id="h").unwrap() for buyer in ("ann", "bob")]
        confirmed = sale.confirm_many([held[0], held[0]])
        assert [answer.replayed for answer in confirmed] == [False, True]
        released = sale.release_many([held[1], held[1]])
        assert [answer.replayed for answer in released] == [False, True]
        assert sale.snapshot().skus["red"].sold == 1
        books_are_right(sale)

    def an_id_that_reads_like_a_record_is_none(self) -> None:
        sale = self.open(Sku("red", 50))
        held = sale.hold("ann", ONE, hold_id="h").unwrap()
        record = f"1h{held.deadline_ms}h"
        assert sale.confirm("ann", record).outcome is Outcome.UNKNOWN_HOLD

    def a_slow_clock_allows_nothing(self) -> None:
        sale = self.open(Sku("red", 50))
        self.set_time(sale.id, 1)  # the server's clock counts
        due_ms = sale.hold("ann", {"red": 2}, hold_id="h").unwrap().deadline_ms
        self.set_time(sale.id, due_ms - 120_000)
        while time.time_ns() // 1_000_000 <= due_ms:
            time.sleep(0.01)
        with mock.patch("flashsale.connecting.now_ms", return_value=due_ms - 120_000):
            told = [
                sale.confirm("ann", "h"),
                sale.confirm("ann", "h", lines={"red": 1}),
                sale.extend("ann", "h", deadline_ms=due_ms + 1_000),
            ]
        assert [answer.outcome for answer in told] == [Outcome.CLOCK_JUMP] * 3
        assert sale.confirm("ann", "h").outcome is Outcome.EXPIRED

    def with_memory_full_nothing_new_is_kept(self) -> None:
        sale = self.open(Sku("red", 50))
        sale.hold("ann", ONE, hold_id="h").unwrap()
        sale.hold("bob", ONE, hold_id="h").unwrap()
        self.set_time(sale.id, T0 + TTL_MS)
        sale.expire()
        self._raw.config_set("maxmemory", 1)
        try:
            assert sale.confirm("ann", "h").outcome is Outcome.EXPIRED
            for call in (
                lambda: sale.confirm("ann", "h", late="retake"),
                lambda: sale.release("new", "h"),
                lambda: sale.ledger.register("new"),
            ):
                refused(call)
            sale.pause()
            refused(sale.resume)
        finally:
            self._raw.config_set("maxmemory", 0)
        books_are_right(sale)


def refused(call: Callable[[], object]) -> None:
    """The server has no memory for it."""
    with pytest.raises(StoreUnavailable, match="OOM"):
        call()


class OracleRun:
    """Random verbs on one sale, each answer held against the oracle's."""

    def __init__(self, battery: Battery, chance: random.Random) -> None:
        self._battery, self._chance = battery, chance
        self._sale = battery.open(Sku("red", 12, 4), Sku("blue", 6), limit=6, holds_max=8)
        definition = self._sale.snapshot().sale
        self._oracle = OracleSale(definition, now_ms=T0)
        self._now, self._fresh, self._ops = T0, 0, 0

    def run(self) -> None:
        verbs = [self._hold] * 4 + [self._crowd] * 2 + [self._confirm] * 4
        verbs += [self._release, self._extend, self._refund, self._refund, self._restock]
        for step in range(STEPS):
            if self._chance.random() < 0.4:
                self._now += self._chance.choice([100, 300, TTL_MS])
                self._battery.set_time(self._sale.id, self._now)
            self._chance.choice(verbs)()
            if step % 10 == 9:
                self._compare_all()
        self._compare_all()

    def _both(self, verb: str, *args: Any, **kw: Any) -> None:
        real: Answer = getattr(self._sale, verb)(*args, timeout_ms=500, **kw)
        self._now = max(self._now, real.at_ms)
        expected = getattr(self._oracle, verb)(*args, **kw, now_ms=self._now)
        assert real == expected, f"{verb} {args} {kw}\n  engine: {real}\n  oracle: {expected}"

    def _target(self) -> tuple[str, str]:
        return self._chance.choice(["ann", "bob", "cyd"]), self._chance.choice(["h1", "h2", "h3"])

    def _hold(self) -> None:
        buyer, hold_id = self._target()
        self._both("hold", buyer, self._chance.choice(BASKETS), hold_id=hold_id)

    def _crowd(self) -> None:
        """New buyers, perhaps one of them twice, in a batch that may be too large for the stock."""
        baskets = self._chance.choice([[ONE], [ONE], [{"blue": 2}], [{"red": 5}], BASKETS])
        first, self._fresh = self._fresh, self._fresh + self._chance.randint(1, 12)
        requests = [
            HoldRequest(f"new-{n}", self._chance.choice(baskets), "h")
            for n in range(first, self._fresh)
        ]
        if self._chance.random() < 0.3:
            requests.append(HoldRequest(f"new-{first}", self._chance.choice(baskets), "h2"))
        real = self._sale.hold_many(requests, timeout_ms=500)
        expected = self._oracle.hold_many(requests, now_ms=self._now)
        assert real == expected, f"hold_many\n  engine: {real}\n  oracle: {expected}"

    def _confirm(self) -> None:
        if self._fresh and self._chance.random() < 0.5:
            buyer, hold_id = f"new-{self._chance.randrange(self._fresh)}", "h"
        else:
            buyer, hold_id = self._target()
        lines = self._chance.choice([None, None, None, ONE])
        late = self._chance.choice(["refuse", "retake"])
        for _ in range(self._chance.choice([1, 1, 2])):
            self._both("confirm", buyer, hold_id, lines=lines, late=late)

    def _release(self) -> None:
        self._both("release", *self._target())

    def _extend(self) -> None:
        self._both("extend", *self._target(), deadline_ms=self._now + TTL_MS + 500)

    def _refund(self) -> None:
        op_id = self._chance.choice(["r1", "r2"])
        self._both("refund", *self._target(), lines=ONE, op_id=op_id)

    def _restock(self) -> None:
        self._ops += self._chance.randint(0, 1)
        op_id, change = f"t{self._ops}", self._ops % 3 + 1
        changes = {"red": change, "blue": -2} if self._ops % 2 else {"red": -change, "blue": 3}
        self._both("restock", changes, op_id=op_id)

    def _compare_all(self) -> None:
        self._oracle.check()
        view = books_are_right(self._sale)
        expected = self._oracle.snapshot(now_ms=self._now)
        told = [event for entry in self._oracle.entries for event in entry.events]
        assert Counter(map(_shown, events_of(self._sale))) == Counter(map(_shown, told))
        assert view.buyers == expected.buyers
        assert view.state == expected.state
        for buyer in ("ann", "bob", "cyd"):
            real = self._sale.holds_of(buyer)
            assert real == self._oracle.holds_of(buyer, now_ms=self._now)


def _shown(event: Event) -> tuple[object, ...]:
    lines = tuple(sorted(event.lines.items()))
    return (event.kind, event.buyer, event.hold_id, lines, event.deadline_ms, event.op_id)
