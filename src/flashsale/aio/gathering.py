"""Single calls of one event loop, gathered into batches by the policy of `flashsale.batching`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct

from flashsale import batches
from flashsale.attempts import CLOSED, Attempts, Regroup, out_of_time
from flashsale.batches import Item, Kind, Result
from flashsale.batching import Batch, Gathering, Pending
from flashsale.calls import Operation
from flashsale.errors import FlashSaleError, OutcomeUnknown, ProtocolError
from flashsale.models import Answer

Drive = Callable[[Operation[None], Attempts], Awaitable[None]]


class _Flight(Struct, eq=False):
    """A batch on its way."""

    task: asyncio.Task[None]
    attempts: Attempts


class Gatherer:
    """Puts callers' operations into batches and hands the answers back.

    A caller who is cancelled or out of time harms nobody: what was not sent yet is left out, and
    what was is answered to the others.
    """

    def __init__(self, policy: Gathering, drive: Drive) -> None:
        self.policy = policy
        self._drive = drive
        self._flights: dict[Batch, _Flight] = {}
        self._due = False
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0

    def ask(
        self, loop: asyncio.AbstractEventLoop, kind: Kind, item: Item, limit_ms: int
    ) -> asyncio.Future[Answer]:
        """The future answer to one operation; Overloaded if too many wait already."""
        future: asyncio.Future[Answer] = loop.create_future()
        deadline = time.monotonic() + limit_ms / 1000
        self.policy.offer(kind, item, future, deadline=deadline, limit_ms=limit_ms)
        if not self._due:
            # Whoever else asks in this turn of the loop travels along.
            self._due = True
            loop.call_soon(self._dispatch)
        if self._alarm is None or deadline < self._alarm_at:
            self._set_alarm(loop, deadline)
        return future

    async def drain(self, seconds: float) -> None:
        """Wait for what was accepted; what is not answered by then is told so."""
        deadline = time.monotonic() + seconds
        while not self.policy.idle and (remaining := deadline - time.monotonic()) > 0:
            tasks = [flight.task for flight in self._flights.values()]
            if tasks:
                await asyncio.wait(tasks, timeout=remaining, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0)
        for pending, batch in list(self.policy.unanswered()):
            self._give_up(pending, batch, CLOSED)
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._alarm is not None:
            self._alarm.cancel()

    # --- batches --------------------------------------------------------------------------

    def _dispatch(self) -> None:
        self._due = False
        while (batch := self.policy.take()) is not None:
            attempts = Attempts(batch.deadline, batch.limit_ms)
            task = asyncio.get_running_loop().create_task(self._run(batch, attempts))
            self._flights[batch] = _Flight(task, attempts)

    async def _run(self, batch: Batch, attempts: Attempts) -> None:
        try:
            while batch.pending and await self._carry(batch, attempts):
                self._leave_out_gone(batch, attempts)
        except Exception as error:  # a defect of ours must not leave callers waiting
            self._fail(batch, error)
        except asyncio.CancelledError:  # by somebody who cancels whatever task there is
            for pending in batch.pending:
                self._give_up(pending, batch)
            raise
        finally:
            self._flights.pop(batch, None)
            self.policy.finished(batch)
            self._dispatch()

    def _leave_out_gone(self, batch: Batch, attempts: Attempts) -> None:
        """Before it is sent: some were told that it was not."""
        for pending in batch.pending:
            if pending.caller.done():
                self.policy.settled(pending)
        batch.pending = [pending for pending in batch.pending if not pending.caller.done()]
        attempts.withdrawn = False

    async def _carry(self, batch: Batch, attempts: Attempts) -> bool:
        """Send a batch and tell its callers; True if it has to be made anew."""
        policy, waiting = self.policy, batch.pending
        regroup = False

        def tell(numbers: Sequence[int], ends: Sequence[Result]) -> None:
            nonlocal regroup
            if ends and isinstance(ends[0], Regroup):
                regroup = True
                return
            for number, result in zip(numbers, ends, strict=True):
                pending = waiting[number]
                future = pending.caller
                gone = future.done()
                if isinstance(result, FlashSaleError):
                    policy.settled(pending, unanswered=isinstance(result, OutcomeUnknown))
                    if not gone:
                        future.set_exception(result)
                else:
                    policy.settled(pending, unanswered=gone)
                    if not gone:
                        future.set_result(result)

        kind, items = batch.lane.kind, batch.items
        await self._drive(batches.run_batch(kind, items, tell), attempts)
        return regroup

    def _fail(self, batch: Batch, error: Exception) -> None:
        for pending in batch.pending:
            if not pending.caller.done():
                told = ProtocolError(f"unexpected {type(error).__name__}: {error}")
                told.__cause__ = error
                pending.caller.set_exception(told)

    # --- time-outs ------------------------------------------------------------------------

    def _set_alarm(self, loop: asyncio.AbstractEventLoop, deadline: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = deadline
        self._alarm = loop.call_later(max(0.001, deadline - time.monotonic()), self._wake)

    def _wake(self) -> None:
        self._alarm = None
        now = time.monotonic()
        earliest: float | None = None
        for pending, batch in list(self.policy.unanswered()):
            if pending.caller.done():
                continue
            if pending.deadline <= now:
                self._give_up(pending, batch)
            elif earliest is None or pending.deadline < earliest:
                earliest = pending.deadline
        self.policy.drop_gone()
        if earliest is not None:
            # With very many waiting, looking must not be all that this loop does.
            took = time.monotonic() - now
            earliest = max(earliest, now + 5 * took)
            self._set_alarm(asyncio.get_running_loop(), earliest)
        self._dispatch()

    def _give_up(self, pending: Pending, batch: Batch | None, why: str | None = None) -> None:
        """The caller is to wait no longer: say whether the operation may have been applied."""
        if pending.caller.done():
            return
        flight = self._flights.get(batch) if batch else None
        attempts = flight.attempts if flight else Attempts(0.0, pending.limit_ms)
        pending.caller.set_exception(attempts.withdraw(why or out_of_time(pending.limit_ms)))
