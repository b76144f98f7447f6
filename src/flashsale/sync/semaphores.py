"""A semaphore that serves threads (or greenlets) in the order in which they came."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Hashable
from typing import Any

from msgspec import Struct

from flashsale.guards import Guard


class _Turn(Struct, eq=False):
    """Somebody who waits."""

    holder: Hashable
    bell: Any


class FairSemaphore:
    """As `threading.Semaphore`, but nobody passes those who wait, and none gets lost.

    That one wakes who waits, and lets through whoever comes before he runs: a thread that gives
    back and takes again at once, as bulk calls do, keeps the others out. Here what is given back
    belongs to who has waited longest, so there is something free only if nobody waits.

    What is taken is taken in somebody's name, and who has something is all that is counted: giving
    back twice does nothing, so whoever is interrupted while he takes or gives back gives back.
    """

    def __init__(self, value: int) -> None:
        self._value = value
        self._held: dict[Hashable, None] = {}
        self._waiting: deque[_Turn] = deque()
        self._guard = Guard(self._serve)

    @property
    def held(self) -> int:
        """How many are taken."""
        return len(self._held)

    def acquire(self, holder: Hashable, seconds: float = 0.0) -> bool:
        """Take one, after a wait of at most so long; False if there was none."""
        try:
            turn = self._guard.run(self._take, holder, seconds > 0)
            if turn is None or turn.bell.acquire(timeout=seconds):
                return holder in self._held
            return self._guard.run(self._leave, turn)
        except BaseException:  # interrupted, or a greenlet that is killed
            self._guard.run(self._forget, holder)
            raise

    def release(self, holder: Hashable) -> None:
        """Give back what was taken in this name, if anything: to who has waited longest."""
        self._guard.run(self._give_back, holder)

    def _take(self, holder: Hashable, may_wait: bool) -> _Turn | None:
        if len(self._held) < self._value and not self._waiting:
            self._held[holder] = None
        elif may_wait:
            turn = _Turn(holder, threading.Lock())
            turn.bell.acquire()
            self._waiting.append(turn)
            self._serve()
            return turn
        return None

    def _give_back(self, holder: Hashable) -> None:
        self._held.pop(holder, None)
        self._serve()

    def _leave(self, turn: _Turn) -> bool:
        """Wait no longer; True if it was one's turn just now."""
        if turn in self._waiting:
            self._waiting.remove(turn)
        return turn.holder in self._held

    def _forget(self, holder: Hashable) -> None:
        self._waiting = deque(turn for turn in self._waiting if turn.holder is not holder)
        self._give_back(holder)

    def _serve(self) -> None:
        """Give what is free to those who wait; an interrupted round is gone on with."""
        while self._waiting:
            turn = self._waiting[0]
            if turn.holder not in self._held and len(self._held) >= self._value:
                return
            self._held[turn.holder] = None
            if turn.bell.locked():
                turn.bell.release()
            self._waiting.popleft()
