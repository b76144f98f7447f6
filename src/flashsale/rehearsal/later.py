"""What holders do after their hold: pay, extend, give up, each when its time has come."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Sequence
from heapq import heappop, heappush
from typing import NamedTuple, Protocol, TypeVar

from flashsale.errors import FlashSaleError, ProtocolError, StoreError
from flashsale.models import Answer, HoldRequest, Outcome
from flashsale.rehearsal.crowd import Fate, Late, Plan
from flashsale.rehearsal.facts import Facts, FollowUp, Result, Verb

BATCH_MAX = 256
"""Most operations in one call to the engine."""

SINGLES_MAX = 8
"""Most calls for single operations that a worker has under way."""

RETRIES_MAX = 5
RETRY_AFTER_S = 0.2
"""A step whose answer was lost is taken again so often and so much later."""

T = TypeVar("T")

_FIRST_STEP = {
    Fate.PAY: Verb.CONFIRM,
    Fate.PAY_SLOWLY: Verb.EXTEND,
    Fate.CANCEL: Verb.RELEASE,
}


class SaleCalls(Protocol):
    """What a rehearsal's buyers ask of a sale's handle (`AsyncSaleHandle` has it)."""

    async def hold_many(self, requests: Sequence[HoldRequest]) -> list[Answer | FlashSaleError]:
        """As `AsyncSaleHandle.hold_many`."""

    async def confirm_many(
        self, holds: Sequence[Answer], *, late: Late
    ) -> list[Answer | FlashSaleError]:
        """As `AsyncSaleHandle.confirm_many`."""

    async def release_many(self, holds: Sequence[Answer]) -> list[Answer | FlashSaleError]:
        """As `AsyncSaleHandle.release_many`."""

    async def extend(self, hold: Answer, *, deadline_ms: int) -> Answer:
        """As `AsyncSaleHandle.extend`."""

    async def expire(self, max_holds: int) -> int:
        """As `AsyncSaleHandle.expire`."""


class Step(NamedTuple):
    """Something a holder will do. `tries`: how often its answer was lost."""

    due_s: float
    order: int
    verb: Verb
    tries: int


class Steps:
    """The steps of all holders, in the order of time. No I/O: what is due is for others to do."""

    def __init__(self, plan: Plan, facts: Facts) -> None:
        self._plan = plan
        self._facts = facts
        self._queue: list[tuple[float, int, Step]] = []
        self.due: dict[Verb, deque[Step]] = {verb: deque() for verb in Verb}
        self._planned = 0
        self._acting = bytearray(len(plan.requests))
        self.handles: dict[int, Answer] = {}
        self.held = self.confirmed = 0

    def heard(self, attempt: int, answer: Answer, now: float) -> None:
        """An attempt was held: the first such answer that its buyer hears sets the next step."""
        order = self._plan.order[attempt]
        if self._plan.deaf[attempt] or self._acting[order]:
            return
        self._acting[order] = 1
        self.held += 1
        verb = _FIRST_STEP.get(Fate(self._plan.fates[order]))
        if verb is not None:
            self.handles[order] = answer
            self._add(now + self._plan.think_s[order], order, verb)

    def take_up(self, now: float) -> None:
        """Let what is due be worked on."""
        while self._queue and self._queue[0][0] <= now:
            _, _, step = heappop(self._queue)
            self.due[step.verb].append(step)

    def is_due(self) -> bool:
        """True if there is something to work on."""
        return any(self.due.values())

    def __len__(self) -> int:
        """How many steps are still to come; those that are due do not count."""
        return len(self._queue)

    def answered(self, step: Step, result: Result, at: float) -> None:
        """Note what a step was answered, and what its holder will do next."""
        self._facts.follow_ups.append(FollowUp(step.verb, step.order, step.due_s, result, at))
        if isinstance(result, StoreError):
            if step.tries < RETRIES_MAX:
                self._add(at + RETRY_AFTER_S, step.order, step.verb, step.tries + 1)
        elif step.verb is Verb.EXTEND:
            self._add(at + self._plan.think_s[step.order], step.order, Verb.CONFIRM)
        elif isinstance(result, Answer) and result.outcome is Outcome.CONFIRMED:
            self.confirmed += 1

    def deadline_ms(self, hold: Answer) -> int:
        """The deadline that who pays slowly asks for."""
        return (hold.deadline_ms or 0) + self._plan.extend_ms

    def _add(self, due_s: float, order: int, verb: Verb, tries: int = 0) -> None:
        # The number keeps steps of the same moment in order and from being compared.
        self._planned += 1
        heappush(self._queue, (due_s, self._planned, Step(due_s, order, verb, tries)))


class Later(Steps):
    """The steps, taken in batches through a sale's handle."""

    def __init__(self, sale: SaleCalls, plan: Plan, facts: Facts) -> None:
        super().__init__(plan, facts)
        self._sale = sale

    async def work(self, now: Clock) -> None:
        """Take some of the due steps of every verb, each in one batch."""
        for verb, steps in self.due.items():
            if steps:
                await self._take_steps(verb, take(steps, _SIZE[verb]), now)

    async def _take_steps(self, verb: Verb, steps: Sequence[Step], now: Clock) -> None:
        holds = [self.handles[step.order] for step in steps]
        results = await answers_of(len(holds), self._ask(verb, holds))
        at = now()
        for step, result in zip(steps, results, strict=True):
            self.answered(step, result, at)

    async def _ask(self, verb: Verb, holds: Sequence[Answer]) -> Sequence[Result]:
        if verb is Verb.CONFIRM:
            return await self._sale.confirm_many(holds, late=self._plan.late)
        if verb is Verb.RELEASE:
            return await self._sale.release_many(holds)
        return await asyncio.gather(*map(self._extend, holds))

    async def _extend(self, hold: Answer) -> Result:
        try:
            return await self._sale.extend(hold, deadline_ms=self.deadline_ms(hold))
        except FlashSaleError as error:
            return error


class Clock(Protocol):
    """Seconds since the start of the surge."""

    def __call__(self) -> float:
        """Now."""


_SIZE = {Verb.CONFIRM: BATCH_MAX, Verb.RELEASE: BATCH_MAX, Verb.EXTEND: SINGLES_MAX}


def take(queue: deque[T], most: int) -> list[T]:
    """The first of a queue, at most so many."""
    return [queue.popleft() for _ in range(min(most, len(queue)))]


async def answers_of(count: int, call: Awaitable[Sequence[Result]]) -> Sequence[Result]:
    """One result for each request, whatever happens to the call."""
    try:
        results = await call
    except FlashSaleError as error:
        return [error] * count
    if len(results) != count:
        return [ProtocolError(f"{len(results)} answers to {count} requests")] * count
    return results
