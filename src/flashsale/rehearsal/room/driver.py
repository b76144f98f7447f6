"""Sends every tap of a live room when it is due, through the engine's own client."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right

from flashsale.aio import AsyncCueHandle, AsyncSaleHandle
from flashsale.draw import proof_of
from flashsale.errors import FlashSaleError, Overloaded
from flashsale.models import Answer, Outcome
from flashsale.rehearsal.driver import (
    LEAD_S,
    REPORT_EVERY_S,
    TICK_S,
    OnProgress,
    Progress,
    no_collector,
)
from flashsale.rehearsal.facts import Facts, Result
from flashsale.rehearsal.room.judging import Settled
from flashsale.rehearsal.room.scenario import LiveRoom, RoomPlan, is_entry, position_ms

OPENING_S = 0.005
"""Time to open a cue, beside three round trips."""


class RoomDriver:
    """One run of a room's plan.

    Each tap is two calls, an entry into its cue's draw and a plain hold on the twin sku, sent when
    the tap arrives, whatever became of those before. Every cue is settled when it closes, while
    taps for others still come.
    """

    def __init__(
        self,
        sale: AsyncSaleHandle,
        room: LiveRoom,
        plan: RoomPlan,
        *,
        seconds: float,
        on_progress: OnProgress | None = None,
    ) -> None:
        self._sale = sale
        self._room = room
        self._plan = plan
        self._seconds = seconds
        self._on_progress = on_progress
        self.facts = Facts.of(plan.plan)
        self.settled = Settled([None] * len(plan.cues_at_s), {}, {}, [])
        self._cues: list[AsyncCueHandle] = []
        self._nonces: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._next = self._held = self._completed = 0
        self._start = self._reported = 0.0

    async def run(self) -> None:
        """Open the cues, send every tap, settle every cue, ask for every entrant's result."""
        await self._open()
        with no_collector():
            settling = [
                asyncio.create_task(self._settle(number, cue))
                for number, cue in enumerate(self._cues)
            ]
            try:
                await self._surge()
                await asyncio.gather(*settling)
                await self._ask_the_rest()
            finally:
                for task in settling:
                    task.cancel()
            self.facts.ended_s = self._now()

    def _now(self) -> float:
        return time.perf_counter() - self._start

    async def _open(self) -> None:
        """Open the cues, the times of which are the server's, and only then let the run begin."""
        before = time.perf_counter()
        server_ms = (await self._sale.snapshot()).at_ms
        after = time.perf_counter()
        number = len(self._plan.cues_at_s)
        self._start = after + LEAD_S + number * (OPENING_S + 3 * (after - before))
        begin_ms = server_ms + (self._start - (before + after) / 2) * 1000
        for sku, at_s in zip(self._room.sku_ids, self._plan.cues_at_s, strict=True):
            handle = await self._sale.cue(
                sku,
                at=position_ms(at_s),
                cue_time_ms=round(begin_ms + at_s * 1000),
                window_ms=self._room.window_ms,
                lag_cap_ms=self._room.lag_cap_ms,
                grace_ms=self._room.grace_ms,
                reserve_ms=0,  # nobody here passes a place on: the room is cleared away after it
            )
            self._cues.append(handle)
            self._nonces.append((await handle.cue()).nonce)

    async def _surge(self) -> None:
        times, facts = self._plan.plan.at_s, self.facts
        await asyncio.sleep(max(0.0, -self._now()))
        cpu, wall = time.process_time(), time.perf_counter()
        while self._next < len(times) or self._tasks:
            now = self._now()
            due = bisect_right(times, now, self._next)
            for attempt in range(self._next, due):
                facts.picked_s[attempt] = now
                task = asyncio.create_task(self._send(attempt))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            self._next = due
            self._report("surge")
            await asyncio.sleep(TICK_S)
        facts.generator_cpu = (time.process_time() - cpu) / (time.perf_counter() - wall)

    async def _send(self, attempt: int) -> None:
        order = self._plan.plan.order[attempt]
        try:
            result = await (self._enter(attempt) if is_entry(order) else self._hold(order))
        except Overloaded:
            self.facts.dropped += 1
            return
        except FlashSaleError as error:
            result = error
        self.facts.results[attempt] = result
        self.facts.answered_s[attempt] = self._now()
        self._completed += 1

    async def _enter(self, attempt: int) -> Result:
        plan = self._plan
        order = plan.plan.order[attempt]
        request, number = plan.plan.requests[order], plan.cue_of(order)
        cue = self._cues[number]
        told = await cue.enter(
            request.buyer,
            request.basket,
            position_ms=plan.position_ms(attempt),
            proof=proof_of(self._nonces[number], cue.sale, cue.id, request.buyer),
        )
        if told.outcome is Outcome.ENTERED:
            self.settled.receipts[order] = told.receipt
        return Answer(
            told.outcome,
            told.sale,
            told.buyer,
            request.hold_id,
            at_ms=told.at_ms,
            replayed=told.replayed,
        )

    async def _hold(self, order: int) -> Result:
        request = self._plan.plan.requests[order]
        answer = await self._sale.hold(request.buyer, request.basket, hold_id=request.hold_id)
        self._held += answer.outcome is Outcome.HELD
        return answer

    async def _settle(self, number: int, cue: AsyncCueHandle) -> None:
        """Settle when the cue closes, then ask for every entrant's result, and for the record."""
        try:
            told = await cue.settle()
            if told.outcome is not Outcome.SETTLED:
                self.settled.failed.append(f"cue {cue.id!r} was not settled: {told.outcome.value}")
                return
            entered = [o for o in self.settled.receipts if self._plan.cue_of(o) == number]
            await self._ask(entered)
            self.settled.records[number] = await cue.record()
            self._report("settle")
        except FlashSaleError as error:
            self.settled.failed.append(
                f"cue {cue.id!r} was not settled: {type(error).__name__}: {error}"
            )

    async def _ask_the_rest(self) -> None:
        """Those whose entry was answered while their cue was being settled."""
        settled = self.settled
        left = [order for order in settled.receipts if order not in settled.results]
        await self._ask([o for o in left if settled.records[self._plan.cue_of(o)] is not None])

    async def _ask(self, orders: list[int]) -> None:
        answers = await asyncio.gather(*map(self._result, orders))
        self.settled.results.update(zip(orders, answers, strict=True))

    async def _result(self, order: int) -> Result:
        cue = self._cues[self._plan.cue_of(order)]
        try:
            answer = await cue.result(self._plan.plan.requests[order].buyer, wait_ms=0)
        except FlashSaleError as error:
            return error
        self._held += answer.outcome is Outcome.HELD
        return answer

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
                total=self._plan.plan.offered,
                completed=self._completed,
                dropped=self.facts.dropped,
                held=self._held,
            )
        )
