"""One drop through the engine: windows, and the same crowd first come, first served."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import redis

from flashsale import (
    FlashSale,
    HoldRequest,
    Key,
    Outcome,
    Sale,
    Sku,
    freezing,
    settling,
    verify,
    window,
)
from flashsale.batches import CHUNK, Item, run_all
from flashsale.calls import Operation
from flashsale.keys import ShardKeys
from loadtests.fairness.crowd import Crowd

KEY = Key("fairness", b"the same draws in every run, 32 b")
CUE_AT_MS = 4_000_000_000_000
"""The time of a drop, held in the shard far beyond the real one: time moves when a tap arrives."""
POSITION_MS = 1_000_000_000
STEP_MS = 10
WINDOW_MS, LAG_CAP_MS = 3_000, 12_000
LONG_MS = 600_000

Wins = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Draw:
    """What windows gave: who won, by viewer; and what must be nothing."""

    won: Wins
    entered: int
    oversold: int
    twice: int
    unverified: int


@dataclass(frozen=True)
class Drop:
    """What came of one crowd, either way."""

    windows: Draw
    first_come: Wins


class Stage:
    """A shop whose sales live in a time of their own."""

    def __init__(self, shop: FlashSale) -> None:
        self.shop = shop
        self.raw: Any = redis.Redis.from_url(str(shop.url))

    def open(self, name: str, units: int) -> Any:
        """A sale at the time of the cue; its cues' secrets, and so their draws, follow its name."""
        window.random_bytes = random.Random(name).randbytes
        rules: dict[str, Any] = {"hold_ttl_ms": 86_400_000, "buyers_max": 10_000_000}
        sale = self.shop.open(Sale(name, [Sku("x", units, limit=1)], **rules))
        self.set_time(name, CUE_AT_MS)
        return sale

    def set_time(self, sale_id: str, at_ms: int) -> None:
        """Let it be that time in a sale: the scripts take the later of theirs and the shard's."""
        self.raw.hset(ShardKeys.of(sale_id).sale, "now", at_ms)

    def run(self, name: str, crowd: Crowd, units: int) -> Drop:
        """Both ways, through the server."""
        self.raw.flushall()
        first_come = self._first_come(f"{name}-first", crowd, units)
        return Drop(self.windows(name, crowd, units), first_come)

    def windows(self, name: str, crowd: Crowd, units: int, *, spread_ms: int = 0) -> Draw:
        """Windows alone; the settlement dies on its way and is begun again."""
        sale = self.open(name, units)
        cue = sale.cue(
            "x", at=POSITION_MS, cue_time_ms=CUE_AT_MS, stock={"x": units}, window_ms=WINDOW_MS,
            lag_cap_ms=LAG_CAP_MS, spread_ms=spread_ms, proof=False,
        )  # fmt: skip
        known = self.shop.perform(window.know(name, "x"))
        self._enter(known, crowd)
        self.set_time(name, known.cue.closes_at_ms)
        frozen = self.shop.perform(freezing.freeze(name, "x"), LONG_MS)
        ready = self.shop.perform(settling.prepare(frozen, KEY, None), LONG_MS)
        self.set_time(name, known.cue.reveals_at_ms)
        self.shop.perform(_dying(settling.finish(ready), 5), LONG_MS)
        settled = cue.settle(wait=False, timeout_ms=LONG_MS)
        checked = verify.verify(cue.record(timeout_ms=LONG_MS))
        holds = self.raw.hkeys(ShardKeys.of(name).buyers)
        won = np.zeros(crowd.size, dtype=bool)
        won[[int(buyer) for buyer in holds]] = True
        sold = sale.snapshot().skus["x"]
        return Draw(
            won=won,
            entered=settled.entrants,
            oversold=max(0, sold.held - units) + len(sale.audit().problems),
            twice=len(holds) - int(won.sum()) + abs(sold.held - int(won.sum())),
            unverified=int(not checked.ok),
        )

    def _enter(self, known: window.Known, crowd: Crowd) -> None:
        who, arrival, position = crowd.taps()
        step = (arrival // STEP_MS).astype(int)
        borders = np.flatnonzero(np.diff(step)) + 1
        kind = window.enter_kind(known.cue.sale, known)
        for some in np.split(np.arange(len(who)), borders):
            if not len(some):
                continue
            taps = [(str(who[n]), POSITION_MS + int(position[n])) for n in some]
            self.set_time(known.cue.sale, CUE_AT_MS + int(arrival[some[-1]]))

            def check(tap: tuple[str, int]) -> Item:
                return window.enter_item(known, tap[0], {"x": 1}, tap[1], None, None)

            for answer in self.shop.perform(run_all(kind, taps, check), LONG_MS):
                if isinstance(answer, Exception):
                    raise answer

    def _first_come(self, name: str, crowd: Crowd, units: int) -> Wins:
        sale = self.open(name, units)
        who, _, _ = crowd.taps()
        requests = [HoldRequest(str(viewer), {"x": 1}, "h") for viewer in dict.fromkeys(who)]
        won = np.zeros(crowd.size, dtype=bool)
        for some in _pieces(requests):
            for answer in sale.hold_many(some, timeout_ms=LONG_MS):
                if answer.outcome is Outcome.HELD:
                    won[int(answer.buyer)] = True
        return won


def _pieces(requests: list[HoldRequest]) -> Iterator[list[HoldRequest]]:
    for start in range(0, len(requests), CHUNK):
        yield requests[start : start + CHUNK]


def _dying(operation: Operation[Any], calls: int) -> Operation[None]:
    """The first calls of an operation; then its process is gone."""
    reply: Any = None
    for _ in range(calls):
        try:
            step = operation.send(reply)
        except StopIteration:
            return
        reply = yield step
    operation.close()
