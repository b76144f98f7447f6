"""Sends what a plan says when it says so: open arrivals, in batches of what is due."""

from __future__ import annotations

import asyncio
import gc
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from msgspec import Struct

from flashsale.errors import StoreError
from flashsale.models import Answer, Outcome
from flashsale.rehearsal.crowd import Plan
from flashsale.rehearsal.facts import Facts
from flashsale.rehearsal.later import (
    BATCH_MAX,
    RETRY_AFTER_S,
    SINGLES_MAX,
    Later,
    SaleCalls,
    answers_of,
    take,
)

IN_FLIGHT_MAX = 20_000
"""Most attempts that may be unanswered; what falls due beyond that is dropped and counted."""

WORKERS = 8
"""Calls to the engine at a time. What falls due while all are busy waits, which counts as
latency, and travels in the next batch."""

CONNECTIONS_MAX = WORKERS * SINGLES_MAX + 1
"""Connections that the workers and the sweeper can use at a time."""

TICK_S = 0.003
"""The driver looks this often for what is due."""

SWEEP_EVERY_S = 0.05
SWEEP_HOLDS = 1_024

REPORT_EVERY_S = 0.25

LEAD_S = 0.05


class Progress(Struct, frozen=True, kw_only=True):
    """A moment of a run. `phase` is start, surge, settle or check.

    offered: attempts that have been due, of `total`. held, confirmed: orders.
    """

    phase: str
    elapsed_s: float
    seconds: float
    offered: int = 0
    total: int = 0
    completed: int = 0
    dropped: int = 0
    held: int = 0
    confirmed: int = 0


OnProgress: TypeAlias = Callable[[Progress], None]


def tell(on_progress: OnProgress | None, phase: str, seconds: float) -> None:
    """Say that a phase of a run has begun, to whoever wants to know."""
    if on_progress is not None:
        on_progress(Progress(phase=phase, elapsed_s=0.0, seconds=seconds))


class Driver:
    """One run of a plan against a sale.

    An attempt is taken up when its intended time has come, whatever happened to those before
    it; answers are only kept, and judged after the run. `WORKERS` workers send what is due in
    batches, and after it what holders do. A sweeper expires due holds, as it would in service.
    """

    def __init__(
        self,
        sale: SaleCalls,
        plan: Plan,
        *,
        seconds: float,
        settle_s: float,
        on_progress: OnProgress | None = None,
    ) -> None:
        self._sale = sale
        self._plan = plan
        self._seconds = seconds
        self._settle_s = settle_s
        self._on_progress = on_progress
        self._facts = Facts.of(plan)
        self._later = Later(sale, plan, self._facts)
        self._due: deque[int] = deque()
        self._next = self._completed = self._busy = 0
        self._work_there = asyncio.Event()
        self._over = False
        self._start = self._reported = 0.0

    async def run(self) -> Facts:
        """Send everything, then wait up to `settle_s` for what is still to be done."""
        with no_collector():
            self._start = time.perf_counter() + LEAD_S
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._sweep())
                for _ in range(WORKERS):
                    tasks.create_task(self._work())
                try:
                    await self._surge()
                    await self._settle()
                finally:
                    # Not by cancelling: that would leave a call's outcome in doubt.
                    self._over = True
                    self._work_there.set()
                self._facts.ended_s = self._now()
        return self._facts

    def _now(self) -> float:
        return time.perf_counter() - self._start

    async def _surge(self) -> None:
        await asyncio.sleep(max(0.0, -self._now()))
        cpu, wall = time.process_time(), time.perf_counter()
        times = self._plan.at_s
        while self._next < len(times):
            self._take_up()
            self._report("surge")
            upcoming = times[self._next] if self._next < len(times) else 0.0
            await asyncio.sleep(max(TICK_S, min(upcoming - self._now(), REPORT_EVERY_S)))
        elapsed = time.perf_counter() - wall
        self._facts.generator_cpu = (time.process_time() - cpu) / elapsed

    async def _settle(self) -> None:
        until = self._now() + self._settle_s
        while self._later or self._busy or self._is_due():
            if self._now() < until:
                self._take_up()
            elif not (self._busy or self._is_due()):
                break
            self._report("settle")
            await asyncio.sleep(TICK_S)
        self._facts.left_over = len(self._later)

    def _is_due(self) -> bool:
        return bool(self._due) or self._later.is_due()

    def _take_up(self) -> None:
        """Hand what is due to the workers; drop the attempts beyond the bound."""
        now, facts = self._now(), self._facts
        due = bisect_right(self._plan.at_s, now, self._next)
        unanswered = self._next - facts.dropped - self._completed
        room = min(due, self._next + max(0, IN_FLIGHT_MAX - unanswered))
        for attempt in range(self._next, room):
            facts.picked_s[attempt] = now
        self._due.extend(range(self._next, room))
        facts.dropped += due - room
        self._next = due
        self._later.take_up(now)
        if self._is_due():
            self._work_there.set()

    async def _work(self) -> None:
        """One of the workers: one call at a time, with whatever is due."""
        while not self._over:
            await self._work_there.wait()
            if not self._is_due():
                self._work_there.clear()
                continue
            self._busy += 1
            if self._due:
                await self._hold(take(self._due, BATCH_MAX))
            await self._later.work(self._now)
            self._busy -= 1

    async def _hold(self, attempts: Sequence[int]) -> None:
        plan, facts = self._plan, self._facts
        requests = [plan.requests[plan.order[attempt]] for attempt in attempts]
        facts.batches.append(len(requests))
        results = await answers_of(len(requests), self._sale.hold_many(requests))
        now = self._now()
        for attempt, result in zip(attempts, results, strict=True):
            facts.results[attempt] = result
            facts.answered_s[attempt] = now
            if isinstance(result, Answer) and result.outcome is Outcome.HELD:
                self._later.heard(attempt, result, now)
        self._completed += len(requests)

    async def _sweep(self) -> None:
        while not self._over:
            await asyncio.sleep(SWEEP_EVERY_S)
            try:
                await self._sale.expire(SWEEP_HOLDS)
            except StoreError:
                await asyncio.sleep(RETRY_AFTER_S)

    def _report(self, phase: str) -> None:
        now = self._now()
        if self._on_progress is None or now - self._reported < REPORT_EVERY_S:
            return
        self._reported = now
        self._on_progress(
            Progress(
                phase=phase,
                elapsed_s=now,
                seconds=self._seconds,
                offered=self._next,
                total=self._plan.offered,
                completed=self._completed,
                dropped=self._facts.dropped,
                held=self._later.held,
                confirmed=self._later.confirmed,
            )
        )


@contextmanager
def no_collector() -> Iterator[None]:
    """No garbage collection during a run: with its answers in memory one takes 50 ms and more."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
