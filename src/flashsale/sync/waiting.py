"""Threads (or greenlets) that wait for the result of a draw: one of them asks for all.

There is no thread of the library's own: when the one that asks leaves, another takes its place.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from flashsale.errors import FlashSaleError
from flashsale.models import Answer
from flashsale.window import NOT_YET

Ask = Callable[[], Answer]


class Watch:
    """Looks whether a result is there, until it is or nobody waits any more.

    It also ends when a question fails. Whoever waited then asks for itself, and is told.
    """

    def __init__(self, ask: Ask, pauses: Iterator[float]) -> None:
        self.ended = False
        self._ask, self._pauses = ask, pauses
        self._bell = threading.Condition()
        self._waiting = 0
        self._led = False
        self._next_at = time.monotonic() + next(pauses)

    def wait(self, seconds: float) -> None:
        """Until it ends, at most so long; perhaps as the one that asks."""
        deadline = time.monotonic() + seconds
        with self._bell:
            self._waiting += 1
        try:
            if self._may_lead(deadline):
                self._lead(deadline)
        finally:
            with self._bell:
                self._waiting -= 1
                self.ended = self.ended or not self._waiting

    def _may_lead(self, deadline: float) -> bool:
        """Whether it is for this caller to ask; False when there is no more to wait for."""
        with self._bell:
            while self._led and not self.ended:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return False
                self._bell.wait(remaining)
            if self.ended:
                return False
            if deadline <= time.monotonic():
                self._bell.notify()  # whoever left may have called this one, which leaves, too
                return False
            self._led = True
            return True

    def _lead(self, deadline: float) -> None:
        try:
            while not self.ended and (now := time.monotonic()) < deadline:
                time.sleep(max(0.0, min(self._next_at, deadline) - now))
                if time.monotonic() >= self._next_at:
                    self.ended = self._ask().outcome not in NOT_YET
                    self._next_at = time.monotonic() + next(self._pauses)
        except FlashSaleError:
            self.ended = True
        finally:
            with self._bell:
                self._led = False
                if self.ended:
                    self._bell.notify_all()
                else:
                    self._bell.notify()


class Watches:
    """A client's, by sale and cue; one for all that wait for the same draw."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[tuple[str, str], Watch] = {}

    def get(self, sale: str, cue: str) -> Watch | None:
        """The one that looks for a cue now."""
        with self._lock:
            return self._live(sale, cue)

    def join(self, sale: str, cue: str, ask: Ask, pauses: Iterator[float]) -> Watch:
        """The same, or a new one that asks so after such pauses."""
        with self._lock:
            watch = self._live(sale, cue)
            if watch is None:
                self._found = {key: other for key, other in self._found.items() if not other.ended}
                watch = self._found[sale, cue] = Watch(ask, pauses)
            return watch

    def _live(self, sale: str, cue: str) -> Watch | None:
        watch = self._found.get((sale, cue))
        return None if watch is None or watch.ended else watch
