"""A semaphore that serves threads (or greenlets) in the order in which they came."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any


class FairSemaphore:
    """As `threading.Semaphore`, but nobody passes those who wait.

    That one wakes who waits, and lets through whoever comes before he runs: a thread that gives
    back and takes again at once, as bulk calls do, keeps the others out. Here what is given back
    belongs to who has waited longest, so there is something free only if nobody waits.
    """

    def __init__(self, value: int) -> None:
        self._lock = threading.Lock()
        self._free = value
        self._waiting: deque[Any] = deque()

    def acquire(self, seconds: float = 0.0) -> bool:
        """Take one, after a wait of at most so long; False if there was none."""
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            if seconds <= 0:
                return False
            bell = threading.Lock()
            bell.acquire()
            self._waiting.append(bell)
        try:
            return bell.acquire(timeout=seconds) or not self._leave(bell)
        except BaseException:  # interrupted, or a greenlet that is killed
            if not self._leave(bell):
                self.release()
            raise

    def release(self) -> None:
        """Give one back: to who has waited longest, if anybody has."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1

    def _leave(self, bell: Any) -> bool:
        """Wait no longer; False if it was one's turn just now."""
        with self._lock:
            if bell not in self._waiting:
                return False
            self._waiting.remove(bell)
            return True
