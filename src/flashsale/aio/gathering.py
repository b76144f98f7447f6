"""Single calls of one event loop, gathered into batches by the policy of `flashsale.batching`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from flashsale import batches
from flashsale.attempts import CLOSED, Attempts, Regroup, out_of_time
from flashsale.batches import Item, Kind, Result
from flashsale.batching import Batch, Gathering, Pending
from flashsale.calls import Operation
from flashsale.errors import FlashSaleError, OutcomeUnknown, Overloaded, ProtocolError
from flashsale.faults import refused
from flashsale.guards import Guard
from flashsale.models import Answer

Drive = Callable[[Operation[None], Attempts], Awaitable[None]]

CARRIERS_MAX = 3
"""Tasks that carry a batch one after the other, if something from outside ends them."""


class Gatherer:
    """Puts callers' operations into batches and hands the answers back.

    A caller who is cancelled or out of time harms nobody: what was not sent yet is left out, and
    what was is answered to the others. Nor does an exception from outside that hits the task of a
    batch (a signal handler's): it goes to the loop, and another task sends the batch again.
    """

    def __init__(self, policy: Gathering, drive: Drive) -> None:
        self.policy = policy
        self._drive = drive
        self._guard = Guard(self._mend)
        self._due = False
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0

    def ask(
        self, loop: asyncio.AbstractEventLoop, kind: Kind, item: Item, limit_ms: int
    ) -> asyncio.Future[Answer]:
        """The future answer to one operation; Overloaded if too many wait already."""
        future: asyncio.Future[Answer] = loop.create_future()
        deadline = time.monotonic() + limit_ms / 1000
        guard = self._guard
        try:
            # As `guard.run` does, without its lock: each call pays for this.
            if guard.torn:
                guard.run(self._dispatch)
            guard.torn = True
            self.policy.offer(kind, item, future, deadline=deadline, limit_ms=limit_ms)
            if not self._due:
                # Whoever else asks in this turn of the loop travels along.
                self._due = True
                loop.call_soon(guard.run, self._dispatch)
            if self._alarm is None or deadline < self._alarm_at:
                self._set_alarm(loop, deadline)
            guard.torn = False
        except Overloaded:
            guard.torn = False
            raise
        except BaseException:
            future.cancel()
            raise
        return future

    async def drain(self, seconds: float) -> None:
        """Wait for what was accepted; what is not answered by then is told so."""
        deadline = time.monotonic() + seconds
        while not self.policy.idle and (remaining := deadline - time.monotonic()) > 0:
            if tasks := self._tasks():
                await asyncio.wait(tasks, timeout=remaining, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0)
        for pending, batch in list(self.policy.unanswered()):
            self._give_up(pending, batch, CLOSED)
        tasks = self._tasks()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._alarm is not None:
            self._alarm.cancel()

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [batch.carrier for batch in self.policy.flying if batch.carrier is not None]

    # --- with the guard -------------------------------------------------------------------

    def _dispatch(self) -> None:
        self._due = False
        while (batch := self.policy.take()) is not None:
            self._load(batch)

    def _load(self, batch: Batch) -> None:
        # Not by the loop's factory: an eager task would run here, in the middle of this work.
        batch.carrier = asyncio.Task(self._run(batch), loop=asyncio.get_running_loop())

    def _finish(self, batch: Batch) -> None:
        self.policy.finished(batch)
        self._dispatch()

    def _mend(self) -> None:
        """Something was interrupted half way: nobody may wait for what will not come."""
        self.policy.mend()
        for batch in list(self.policy.flying):
            if batch.carrier is None or batch.carrier.done():
                self._load(batch)
        self._set_alarm(asyncio.get_running_loop(), time.monotonic())
        self._dispatch()

    # --- a batch's own task ---------------------------------------------------------------

    async def _run(self, batch: Batch) -> None:
        try:
            while batch.pending and await self._carry(batch):
                self._leave_out_gone(batch)
        except asyncio.CancelledError:  # by somebody who cancels whatever task there is
            for pending in batch.pending:
                self._give_up(pending, batch)
            self._guard.run(self._finish, batch)
            raise
        except BaseException as error:  # from outside: it is for the loop, the batch goes on
            self._guard.run(self._go_on, batch, error)
            raise
        self._guard.run(self._finish, batch)

    def _go_on(self, batch: Batch, error: BaseException) -> None:
        batch.attempts.interrupted()
        batch.carriers += 1
        self._leave_out_gone(batch)
        if batch.carriers < CARRIERS_MAX and batch.pending:
            self._load(batch)
            return
        for pending in batch.pending:  # a defect of ours must not leave callers waiting
            if not pending.caller.done():
                unexpected = ProtocolError(f"unexpected {type(error).__name__}: {error}")
                told = refused(unexpected, unsure=batch.attempts.unsure)
                told.__cause__ = error
                pending.caller.set_exception(told)
        self._finish(batch)

    def _leave_out_gone(self, batch: Batch) -> None:
        """Before it is sent, perhaps again: some callers do not wait any more."""
        for pending in batch.pending:
            if pending.caller.done():
                self.policy.settled(pending, unanswered=batch.attempts.unsure)
        batch.pending = [pending for pending in batch.pending if not pending.caller.done()]
        batch.attempts.withdrawn = False

    async def _carry(self, batch: Batch) -> bool:
        """Send a batch and tell its callers; True if it has to be made anew."""
        waiting = batch.pending
        regroup = False

        def tell(numbers: Sequence[int], ends: Sequence[Result]) -> None:
            nonlocal regroup
            if ends and isinstance(ends[0], Regroup):
                regroup = True
            else:
                self._guard.run(self._tell_all, waiting, numbers, ends)

        operation = batches.run_batch(batch.lane.kind, batch.items, tell)
        await self._drive(operation, batch.attempts)
        return regroup

    def _tell_all(
        self, waiting: Sequence[Pending], numbers: Sequence[int], ends: Sequence[Result]
    ) -> None:
        policy = self.policy
        for number, result in zip(numbers, ends, strict=True):
            pending = waiting[number]
            future = pending.caller
            gone = future.done()
            if isinstance(result, FlashSaleError):
                if not gone:
                    future.set_exception(result)
                policy.settled(pending, unanswered=isinstance(result, OutcomeUnknown))
            else:
                if not gone:
                    future.set_result(result)
                policy.settled(pending, unanswered=gone)

    # --- time-outs ------------------------------------------------------------------------

    def _set_alarm(self, loop: asyncio.AbstractEventLoop, deadline: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = deadline
        seconds = max(0.001, deadline - time.monotonic())
        self._alarm = loop.call_later(seconds, self._guard.run, self._wake)

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
        attempts = Attempts(0.0, pending.limit_ms) if batch is None else batch.attempts
        pending.caller.set_exception(attempts.withdraw(why or out_of_time(pending.limit_ms)))
