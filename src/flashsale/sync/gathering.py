"""Single calls of many threads (or greenlets), gathered into batches without a thread of its own.

A batch is carried by the caller who has the most time; the others sleep until they have their
answers. A caller that is killed on the way hands its batch to another.
"""

from __future__ import annotations

import copy
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
from flashsale.errors import ConfigurationError, FlashSaleError, OutcomeUnknown, ProtocolError
from flashsale.models import Answer

Drive = Callable[[Operation[None], Attempts], None]


_deadline_of = attrgetter("deadline")


class _Caller:
    """A thread that waits: for its answer, or for a batch to carry."""

    __slots__ = ("_bell", "_rung", "load", "result")

    def __init__(self) -> None:
        self._bell: Any = threading.Lock()
        self._bell.acquire()
        self._rung = False
        self.load: Batch | None = None
        self.result: Result | None = None

    def done(self) -> bool:
        return self.result is not None

    def ring(self) -> None:
        """Wake it; the gatherer's lock is held."""
        if not self._rung:
            self._rung = True
            self._bell.release()

    def sleep(self, seconds: float) -> None:
        """Sleep until rung, at most so long."""
        if self._bell.acquire(timeout=max(seconds, 0.0)):
            self._rung = False


class Gatherer:
    """Puts callers' operations into batches and hands the answers back."""

    def __init__(self, policy: Gathering, drive: Drive) -> None:
        self.policy = policy
        self._drive = drive
        self._lock = threading.Lock()
        self._attempts: dict[Batch, Attempts] = {}
        self._closed = False

    def ask(self, kind: Kind, item: Item, limit_ms: int) -> Answer:
        """The answer to one operation; Overloaded if too many wait already."""
        caller = _Caller()
        deadline = time.monotonic() + limit_ms / 1000
        try:
            with self._lock:
                if self._closed:
                    raise ConfigurationError("this FlashSale is closed")
                pending = self.policy.offer(
                    kind, item, caller, deadline=deadline, limit_ms=limit_ms
                )
                self._dispatch()
            while caller.result is None:
                if caller.load is not None:
                    self._carry(caller.load, caller)
                elif (remaining := deadline - time.monotonic()) > 0:
                    caller.sleep(remaining)
                else:
                    self._give_up(pending)
        except BaseException:
            with self._lock:
                caller.result = caller.result or OutcomeUnknown("its caller was interrupted")
            raise
        finally:
            if caller.load is not None:
                self._hand_on(caller)
        if isinstance(caller.result, FlashSaleError):
            raise caller.result
        return caller.result

    def drain(self, seconds: float) -> None:
        """Wait for what was accepted; what is not answered by then is told so."""
        deadline = time.monotonic() + seconds
        while not self.policy.idle and time.monotonic() < deadline:
            time.sleep(0.001)
        with self._lock:
            self._closed = True
            for pending, batch in list(self.policy.unanswered()):
                self._tell(pending, self._attempts_of(pending, batch).withdraw(CLOSED))
            for attempts in self._attempts.values():
                attempts.deadline = 0.0  # whoever carries these has nobody to carry them for

    # --- batches --------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Give every batch that may go to one of its callers; the lock is held."""
        while (batch := self.policy.take()) is not None:
            self._attempts[batch] = Attempts(batch.deadline, batch.limit_ms)
            self._load(batch)

    def _load(self, batch: Batch) -> None:
        """Give a batch to whoever may carry it to its last operation's deadline."""
        there = [pending for pending in batch.pending if not pending.caller.done()]
        if there:
            carrier = max(there, key=_deadline_of)
            attempts = self._attempts[batch]
            attempts.deadline, attempts.limit_ms = carrier.deadline, carrier.limit_ms
            caller: _Caller = carrier.caller
            caller.load = batch
            caller.ring()
        else:
            self._finish(batch)

    def _finish(self, batch: Batch) -> None:
        self._attempts.pop(batch, None)
        self.policy.finished(batch)
        self._dispatch()

    def _hand_on(self, caller: _Caller) -> None:
        """The caller who carried a batch is gone."""
        with self._lock:
            batch, caller.load = caller.load, None
            if batch is not None:
                self._leave_out_gone(batch)
                self._load(batch)

    def _leave_out_gone(self, batch: Batch) -> None:
        """Before it is sent, perhaps again: some callers do not wait any more."""
        attempts = self._attempts[batch]
        for pending in batch.pending:
            if pending.caller.done():
                self.policy.settled(pending, unanswered=attempts.unsure)
        batch.pending = [p for p in batch.pending if not p.caller.done()]
        attempts.withdrawn = False

    def _carry(self, batch: Batch, caller: _Caller) -> None:
        attempts, waiting = self._attempts[batch], batch.pending
        regroup = False

        def tell(numbers: Sequence[int], ends: Sequence[Result]) -> None:
            nonlocal regroup
            if ends and isinstance(ends[0], Regroup):
                regroup = True
                return
            with self._lock:
                for number, result in zip(numbers, ends, strict=True):
                    self._tell(waiting[number], result)

        kind, items = batch.lane.kind, batch.items
        try:
            self._drive(batches.run_batch(kind, items, tell), attempts)
        except Exception as error:  # a defect of ours must not leave callers waiting
            failure = ProtocolError(f"unexpected {type(error).__name__}: {error}")
            failure.__cause__ = error
            with self._lock:
                for pending in waiting:
                    if not pending.caller.done():
                        self._tell(pending, copy.copy(failure))
        except BaseException:
            attempts.unsure = True  # whoever carries it on cannot know how far it came
            raise
        with self._lock:
            caller.load = None
            if regroup:
                self._leave_out_gone(batch)
                self._load(batch)
            else:
                self._finish(batch)

    def _tell(self, pending: Pending, result: Result) -> None:
        gone = pending.caller.done()
        self.policy.settled(pending, unanswered=gone or isinstance(result, OutcomeUnknown))
        if not gone:
            pending.caller.result = result
            pending.caller.ring()

    # --- time-outs ------------------------------------------------------------------------

    def _give_up(self, pending: Pending) -> None:
        """The caller's time is up: say whether the operation may have been applied."""
        with self._lock:
            if pending.caller.result is None and pending.caller.load is None:
                batch = next((b for b in self._attempts if pending in b.pending), None)
                why = out_of_time(pending.limit_ms)
                pending.caller.result = self._attempts_of(pending, batch).withdraw(why)

    def _attempts_of(self, pending: Pending, batch: Batch | None) -> Attempts:
        waited = Attempts(0.0, pending.limit_ms)
        return waited if batch is None else self._attempts.get(batch, waited)
