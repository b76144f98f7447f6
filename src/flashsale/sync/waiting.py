"""Threads (or greenlets) that wait for the result of a draw: one of them asks for all.

There is no thread of the library's own: when the one that asks leaves, another takes its place.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any

from flashsale.errors import FlashSaleError
from flashsale.guards import Guard
from flashsale.models import Answer
from flashsale.window import NOT_YET

Ask = Callable[[], Answer]

_deadline_of = attrgetter("deadline")

_PAUSE_S = 1.0
"""Between questions, once whatever tells the pauses was interrupted."""


class _Waiter:
    """One that waits; rung when the watch has ended or it is for this one to ask."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self._bell: Any = threading.Lock()
        self._bell.acquire()

    def ring(self) -> None:
        if self._bell.locked():
            self._bell.release()

    def sleep(self, until: float) -> None:
        self._bell.acquire(timeout=max(0.0, until - time.monotonic()))


class Watch:
    """Looks whether a result is there, until it is or nobody waits any more.

    It also ends when a question fails. Whoever waited then asks for itself, and is told. What
    interrupts the one that asks is that one's own.
    """

    def __init__(self, ask: Ask, pauses: Iterator[float]) -> None:
        self.ended = False
        self._ask, self._pauses = ask, pauses
        self._guard = Guard()
        self._waiting: dict[_Waiter, None] = {}
        self._asks: _Waiter | None = None
        self._next_at = time.monotonic() + next(pauses)

    def wait(self, seconds: float) -> None:
        """Until it ends, at most so long; perhaps as the one that asks."""
        waiter = _Waiter(time.monotonic() + seconds)
        try:
            self._wait(waiter)
            self._guard.run(self._leave, waiter)
        except BaseException:
            self._guard.run(self._leave, waiter)
            raise

    def _wait(self, waiter: _Waiter) -> None:
        while not self.ended and time.monotonic() < waiter.deadline:
            asks = self._guard.run(self._who_asks, waiter)
            if asks is not waiter:
                waiter.sleep(min(waiter.deadline, asks.deadline))
            elif time.monotonic() < self._next_at:
                waiter.sleep(min(waiter.deadline, self._next_at))
            else:
                self._look()

    def _look(self) -> None:
        try:
            self.ended = self._ask().outcome not in NOT_YET
        except FlashSaleError:
            self.ended = True
        self._next_at = time.monotonic() + next(self._pauses, _PAUSE_S)

    def _who_asks(self, waiter: _Waiter) -> _Waiter:
        """The one that asks: it waits still, and has time."""
        self._waiting[waiter] = None
        asks = self._asks
        if asks not in self._waiting or asks.deadline <= time.monotonic():
            asks = self._choose()
        return asks

    def _choose(self) -> _Waiter:
        asks = self._asks = max(self._waiting, key=_deadline_of)  # so that it seldom changes
        asks.ring()
        return asks

    def _leave(self, waiter: _Waiter) -> None:
        self._waiting.pop(waiter, None)
        if not self._waiting:
            self.ended = True
        elif self.ended:
            for other in self._waiting:
                other.ring()
        elif self._asks is waiter:
            self._choose()


class Watches:
    """A client's, by sale and cue; one for all that wait for the same draw."""

    def __init__(self) -> None:
        self._guard = Guard()
        self._found: dict[tuple[str, str], Watch] = {}

    def get(self, sale: str, cue: str) -> Watch | None:
        """The one that looks for a cue now."""
        return self._guard.run(self._live, sale, cue)

    def join(self, sale: str, cue: str, ask: Ask, pauses: Iterator[float]) -> Watch:
        """The same, or a new one that asks so after such pauses."""
        return self._guard.run(self._join, sale, cue, ask, pauses)

    def _join(self, sale: str, cue: str, ask: Ask, pauses: Iterator[float]) -> Watch:
        watch = self._live(sale, cue)
        if watch is None:
            self._found = {key: other for key, other in self._found.items() if not other.ended}
            watch = self._found[sale, cue] = Watch(ask, pauses)
        return watch

    def _live(self, sale: str, cue: str) -> Watch | None:
        watch = self._found.get((sale, cue))
        return None if watch is None or watch.ended else watch
