"""Single calls of many threads (or greenlets), gathered into batches without a thread of its own.

A batch is carried by the caller who has the most time; the others sleep until they have their
answers. What interrupts a caller (a signal handler's exception, a killed greenlet) is that
caller's own: its batch goes to another one, who sends it again, which the ids make safe. A batch
that nobody ended by its deadline is ended by whoever comes next.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from flashsale import batches
from flashsale.attempts import CLOSED, Attempts, Regroup, out_of_time
from flashsale.batches import Item, Kind, Result
from flashsale.batching import Batch, Gathering, Pending
from flashsale.calls import Operation
from flashsale.errors import ConfigurationError, FlashSaleError, OutcomeUnknown, Overloaded
from flashsale.guards import Guard
from flashsale.models import Answer

Drive = Callable[[Operation[None], Attempts], None]

OVERDUE_S = 0.02
"""How long after its deadline a batch is left to whoever carries it: to say that time is up."""

_deadline_of = attrgetter("deadline")


class _Caller:
    """A thread that waits: for its answer, or for a batch to carry."""

    __slots__ = ("_bell", "deadline", "gone", "limit_ms", "load", "pending", "result")

    def __init__(self, deadline: float, limit_ms: int) -> None:
        self._bell: Any = threading.Lock()
        self._bell.acquire()
        self.deadline = deadline
        self.limit_ms = limit_ms
        self.pending: Pending | None = None
        self.load: Batch | None = None
        self.result: Result | None = None
        self.gone = False

    def done(self) -> bool:
        return self.result is not None

    def ring(self) -> None:
        """Wake it; the gatherer's guard sees to it that one at a time does so."""
        if self._bell.locked():
            self._bell.release()

    def sleep(self, seconds: float) -> None:
        """Sleep until rung, at most so long."""
        self._bell.acquire(timeout=max(seconds, 0.0))


class Gatherer:
    """Puts callers' operations into batches and hands the answers back."""

    def __init__(self, policy: Gathering, drive: Drive) -> None:
        self.policy = policy
        self._drive = drive
        self._guard = Guard(self._mend)
        self._overdue_at = float("inf")  # when the next batch is, if nobody ends it before
        self._closed = False

    def ask(self, kind: Kind, item: Item, limit_ms: int) -> Answer:
        """The answer to one operation; Overloaded if too many wait already."""
        caller = _Caller(time.monotonic() + limit_ms / 1000, limit_ms)
        try:
            refused = self._guard.run(self._enter, kind, item, caller)
            if refused is not None:
                raise refused
            result = self._wait(caller)
        except BaseException:
            self._guard.run(self._leave, caller)
            raise
        if isinstance(result, FlashSaleError):
            raise result
        return result

    def drain(self, seconds: float) -> None:
        """Wait for what was accepted; what is not answered by then is told so."""
        deadline = time.monotonic() + seconds
        while not self.policy.idle and time.monotonic() < deadline:
            time.sleep(0.001)
        self._guard.run(self._close)

    # --- a caller's own thread ------------------------------------------------------------

    def _wait(self, caller: _Caller) -> Result:
        while (result := caller.result) is None:
            batch = caller.load
            if batch is not None:
                self._carry(batch, caller)
                continue
            seconds = min(caller.deadline, self._overdue_at) - time.monotonic()
            if seconds > 0:
                caller.sleep(seconds)
            else:
                self._guard.run(self._look, caller)
        return result

    def _carry(self, batch: Batch, caller: _Caller) -> None:
        waiting = batch.pending
        regroup = False

        def tell(numbers: Sequence[int], ends: Sequence[Result]) -> None:
            nonlocal regroup
            if ends and isinstance(ends[0], Regroup):
                regroup = True
            else:
                self._guard.run(self._tell_all, waiting, numbers, ends)

        operation = batches.run_batch(batch.lane.kind, batch.items, tell)
        self._drive(operation, batch.attempts)
        self._guard.run(self._carried, batch, caller, regroup)

    # --- with the guard -------------------------------------------------------------------

    def _enter(self, kind: Kind, item: Item, caller: _Caller) -> FlashSaleError | None:
        if self._closed:
            return ConfigurationError("this FlashSale is closed")
        if time.monotonic() >= self._overdue_at:
            self._end_overdue()
        deadline, limit_ms = caller.deadline, caller.limit_ms
        try:
            caller.pending = self.policy.offer(
                kind, item, caller, deadline=deadline, limit_ms=limit_ms
            )
        except Overloaded as error:
            return error
        self._dispatch()
        return None

    def _dispatch(self) -> None:
        """Give every batch that may go to one of its callers."""
        while (batch := self.policy.take()) is not None:
            self._load(batch)

    def _load_again(self, batch: Batch) -> None:
        """Give a batch to another one of its callers who wait still; without any it ends."""
        self._leave_out_gone(batch)
        if batch.pending:
            self._load(batch)
        else:
            self._finish(batch)

    def _load(self, batch: Batch) -> None:
        """Give a batch to the caller who may carry it to its last operation's deadline."""
        caller: _Caller = max(batch.pending, key=_deadline_of).caller
        attempts = batch.attempts
        attempts.deadline, attempts.limit_ms = caller.deadline, caller.limit_ms
        self._overdue_at = min(self._overdue_at, caller.deadline + OVERDUE_S)
        batch.carrier, caller.load = caller, batch
        caller.ring()

    def _leave_out_gone(self, batch: Batch) -> None:
        """Before it is sent, perhaps again: some callers do not wait any more."""
        attempts = batch.attempts
        for pending in batch.pending:
            if pending.caller.done():
                self.policy.settled(pending, unanswered=attempts.unsure)
        batch.pending = [p for p in batch.pending if not p.caller.done()]
        attempts.withdrawn = False

    def _finish(self, batch: Batch) -> None:
        self.policy.finished(batch)
        self._dispatch()

    def _carried(self, batch: Batch, caller: _Caller, regroup: bool) -> None:
        """A batch came back from the server; `regroup`: it was not sent as it is."""
        caller.load = batch.carrier = None
        if batch not in self.policy.flying:
            return  # it took too long, and was ended by somebody else
        if regroup:
            self._load_again(batch)
        else:
            self._finish(batch)

    def _tell_all(
        self, waiting: Sequence[Pending], numbers: Sequence[int], ends: Sequence[Result]
    ) -> None:
        for number, result in zip(numbers, ends, strict=True):
            self._tell(waiting[number], result)

    def _tell(self, pending: Pending, result: Result) -> None:
        gone = pending.caller.done()
        if not gone:
            pending.caller.result = result
            pending.caller.ring()
        self.policy.settled(pending, unanswered=gone or isinstance(result, OutcomeUnknown))

    # --- callers who leave, and what they leave behind ------------------------------------

    def _look(self, caller: _Caller) -> None:
        """A caller woke up: its own time is up, or that of a batch is."""
        self._end_overdue()
        if caller.result is None and caller.load is None and caller.deadline <= time.monotonic():
            self._give_up(caller, out_of_time(caller.limit_ms))

    def _give_up(self, caller: _Caller, why: str) -> None:
        """Say whether the operation may have been applied, to a caller who waits no longer."""
        pending = caller.pending
        batch = next((b for b in self.policy.flying if pending in b.pending), None)
        attempts = batch.attempts if batch is not None else Attempts(0.0, caller.limit_ms)
        caller.result = attempts.withdraw(why)
        caller.ring()

    def _end_overdue(self) -> None:
        """End what nobody ended: whoever carried it was interrupted, and again while leaving."""
        now = time.monotonic()
        if now < self._overdue_at:
            return
        self._overdue_at = float("inf")
        for batch in list(self.policy.flying):
            overdue_at = batch.attempts.deadline + OVERDUE_S
            if overdue_at > now:
                self._overdue_at = min(self._overdue_at, overdue_at)
                continue
            for pending in batch.pending:
                if not pending.caller.done():
                    self._give_up(pending.caller, out_of_time(pending.limit_ms))
            self.policy.finished(batch)
        self._dispatch()

    def _leave(self, caller: _Caller) -> None:
        """A caller was interrupted: whatever it was at, the others go on."""
        caller.gone = True
        if caller.result is None:
            caller.result = OutcomeUnknown("its caller was interrupted")
        batch, caller.load = caller.load, None
        if batch is not None and batch in self.policy.flying:
            batch.attempts.interrupted()
            self._load_again(batch)
        self._dispatch()

    def _close(self) -> None:
        self._closed = True
        for pending, _ in list(self.policy.unanswered()):
            if not pending.caller.done():
                self._give_up(pending.caller, CLOSED)
        for batch in self.policy.flying:
            batch.attempts.deadline = 0.0  # whoever carries these has nobody to carry them for
        self._overdue_at = 0.0

    def _mend(self) -> None:
        """Something was interrupted half way: nobody may wait for what will not come."""
        for pending in [*self.policy.live, *(p for b in self.policy.flying for p in b.pending)]:
            pending.caller.ring()  # whoever has nothing to do sleeps on
        self.policy.mend()
        self._overdue_at = 0.0
        for batch in list(self.policy.flying):
            carrier = batch.carrier
            if carrier is None or carrier.gone or carrier.load is not batch:
                batch.attempts.interrupted()
                self._load_again(batch)
        self._dispatch()
