"""Lets everybody do what is due, through the engine's own client."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from random import Random

from flashsale.aio import AsyncSaleHandle
from flashsale.errors import FlashSaleError, Overloaded
from flashsale.models import Outcome
from flashsale.rehearsal.driver import REPORT_EVERY_S, OnProgress, Progress, no_collector
from flashsale.rehearsal.later import take
from flashsale.rehearsal.queue.crowd import QueuePlan, buyer_of
from flashsale.rehearsal.queue.record import Act, End, Result
from flashsale.rehearsal.queue.scenario import SKU
from flashsale.rehearsal.queue.visits import Due, Visits
from flashsale.rooms import JoinRequest

TICK_S = 0.002
"""The driver looks this often for what is due."""

IN_FLIGHT_MAX = 20_000
"""Most acts that may be unanswered; what falls due beyond that is dropped and counted."""

JOINERS = 2
JOINS_MAX = 16
"""Calls that join people at a time, and how many travel in one: signing their tickets takes 1 ms.
Who comes while all are busy waits, which counts as latency."""

ASKING_S = 0.001
"""Positions are told in a row for so long, without letting anything else happen."""

HOLD_ID = "order"


class QueueDriver:
    """One run of a plan, from `start` of `time.perf_counter` on.

    One heap of what is due serves all people, not a timer each. Joins travel in batches of what is
    due, positions are told one after the other from the shared view of the room, everything else is
    a call of its own.
    """

    def __init__(
        self,
        sale: AsyncSaleHandle,
        visits: Visits,
        *,
        start: float,
        at_most_s: float,
        on_progress: OnProgress | None = None,
    ) -> None:
        self._sale = sale
        self._visits = visits
        self._start = start
        self._at_most_s = at_most_s
        self._on_progress = on_progress
        self._joins: deque[Due] = deque()
        self._asks: deque[Due] = deque()
        self._joining, self._asking = asyncio.Event(), asyncio.Event()
        self._calls: set[asyncio.Task[None]] = set()
        self._tasks: asyncio.TaskGroup
        self._busy = self._held = self._paid = 0
        self._reported = 0.0

    async def run(self) -> None:
        """Until nobody has anything left to do, or the time is up."""
        with no_collector():
            async with asyncio.TaskGroup() as tasks:
                workers = [tasks.create_task(self._join()) for _ in range(JOINERS)]
                workers.append(tasks.create_task(self._ask()))
                self._tasks = tasks  # so that a defect in any of them ends the run, loudly
                await self._go()
                for worker in workers:
                    worker.cancel()

    def _now(self) -> float:
        return time.perf_counter() - self._start

    async def _go(self) -> None:
        visits = self._visits
        await asyncio.sleep(max(0.0, -self._now()))
        cpu, wall = time.process_time(), time.perf_counter()
        while (visits or self._under_way()) and self._now() < self._at_most_s:
            for due in visits.due(self._now()):
                self._take_up(due)
            if self._now() < visits.plan.join_s[-1]:
                elapsed = time.perf_counter() - wall
                visits.record.generator_cpu = (time.process_time() - cpu) / elapsed
            self._report()
            await asyncio.sleep(TICK_S)
        while self._under_way():  # noqa: ASYNC110 - it is four things that have to end
            await asyncio.sleep(TICK_S)
        visits.give_up()

    def _under_way(self) -> int:
        return len(self._joins) + len(self._asks) + len(self._calls) + self._busy

    def _take_up(self, due: Due) -> None:
        if self._under_way() >= IN_FLIGHT_MAX:
            self._visits.drop(due)
        elif due.act in (Act.JOIN, Act.TAB):
            self._joins.append(due)
            self._joining.set()
        elif due.act is Act.ASK:
            self._asks.append(due)
            self._asking.set()
        else:
            task = self._tasks.create_task(self._call(due))
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)

    async def _join(self) -> None:
        plan = self._visits.plan
        while True:
            await self._joining.wait()
            if not self._joins:
                self._joining.clear()
                continue
            batch = take(self._joins, JOINS_MAX)
            self._busy += len(batch)
            requests = [JoinRequest(buyer_of(due.person), plan.key(due.person)) for due in batch]
            results: list[Result]
            try:
                results = list(await self._sale.queue.join_many(requests))
            except FlashSaleError as error:
                results = [error] * len(batch)
            now = self._now()
            for due, result in zip(batch, results, strict=True):
                self._answered(due, result, now)
            self._busy -= len(batch)

    async def _ask(self) -> None:
        queue, tickets, until = self._sale.queue, self._visits.tickets, 0.0
        while True:
            await self._asking.wait()
            if not self._asks:
                self._asking.clear()
                continue
            due = self._asks.popleft()
            self._busy += 1
            result: Result
            try:
                result = await queue.position(buyer_of(due.person), tickets[due.person])
            except FlashSaleError as error:
                result = error
            self._answered(due, result, self._now())
            self._busy -= 1
            if time.perf_counter() > until:
                await asyncio.sleep(0)
                until = time.perf_counter() + ASKING_S

    async def _call(self, due: Due) -> None:
        try:
            result = await self._asked(due)
        except FlashSaleError as error:
            result = error
        self._answered(due, result, self._now())

    async def _asked(self, due: Due) -> Result:
        sale, person, act = self._sale, due.person, due.act
        buyer = buyer_of(person)
        if act is Act.COME:
            return await sale.queue.admit(buyer, self._visits.tickets[person])
        if act is Act.HOLD or act is Act.GRAB:
            return await sale.hold(buyer, {SKU: 1}, hold_id=HOLD_ID)
        if act is Act.PAY:
            return await sale.confirm(self._visits.held[person])
        if act is Act.CANCEL:
            return await sale.release(self._visits.held[person])
        if act is Act.LEAVE:
            return await sale.queue.leave(buyer)
        ticket = hostile_ticket(self._visits.tickets, self._visits.plan, person)
        told = await sale.queue.position(buyer, ticket)
        if told.outcome is not Outcome.WRONG_TICKET:
            return told
        return await sale.queue.admit(buyer, ticket)

    def _answered(self, due: Due, result: Result, now: float) -> None:
        if isinstance(result, Overloaded):
            self._visits.drop(due)
            return
        self._visits.answered(due, result, now)
        self._held += due.person in self._visits.held and due.act is Act.HOLD
        self._paid += due.act is Act.PAY and self._is_paid(due.person)

    def _is_paid(self, person: int) -> bool:
        return self._visits.record.visits[person].end is End.SERVED

    def _report(self) -> None:
        now = self._now()
        if self._on_progress is None or now - self._reported < REPORT_EVERY_S:
            return
        self._reported = now
        record, plan = self._visits.record, self._visits.plan
        self._on_progress(
            Progress(
                phase="surge" if now < plan.join_s[-1] else "settle",
                elapsed_s=now,
                seconds=plan.join_s[-1],
                offered=record.offered,
                total=record.offered + len(self._visits),
                completed=record.completed,
                dropped=record.dropped,
                held=self._held,
                confirmed=self._paid,
            )
        )


def hostile_ticket(tickets: dict[int, str], plan: QueuePlan, person: int) -> str:
    """A ticket that is not this person's: somebody else's, that one changed, or an invented one."""
    source = Random(person)
    others = [source.randrange(plan.people) for _ in range(50)]
    stolen = next((tickets[other] for other in others if other in tickets), "")
    kind = person % 3
    if kind == 0 and stolen:
        return stolen
    if kind == 1 and stolen:
        at = source.randrange(len(stolen))
        return stolen[:at] + ("A" if stolen[at] != "A" else "B") + stolen[at + 1 :]
    return "AQFr" + "A" * 49
