"""What several threads (or greenlets) need at the same time is read once, for all of them."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, TypeVar

from flashsale.errors import FlashSaleError, Rejected
from flashsale.guards import Guard
from flashsale.readings import Reading, Table, TooLate

T = TypeVar("T")


class Readings:
    """A client's, by what is read. Whoever reads and is ended takes nobody along."""

    def __init__(self) -> None:
        self._table = Table()
        self._guard = Guard()

    def __len__(self) -> int:
        return len(self._table)

    def share(
        self, name: Hashable, read: Callable[[], T], deadline: float, *, any_age: bool = False
    ) -> T:
        """What is read, by one of those who ask; TooLate past the deadline.

        any_age: also what somebody has begun to read before this call.
        """
        own = Reading(deadline, Lock())
        own.bell.acquire()
        try:
            found = self._wait(name, own, any_age)
            if found is None:
                result = read()
                own.result = (result,)
                self._end(name, own)
                return result
        except BaseException as error:
            if isinstance(error, FlashSaleError):
                own.error = error
            self._end(name, own)
            raise
        value: T = found[0]
        return value

    def _wait(self, name: Hashable, own: Reading, any_age: bool) -> tuple[Any] | None:
        """The result of somebody's reading; None if it is for this caller to read."""
        while (now := time.monotonic()) < own.until:
            other, counts = self._guard.run(self._table.join, name, own, now, any_age)
            if other is None:
                return None
            self._sleep(other, min(own.until, other.until))
            if not counts:
                continue
            if other.result is not None:
                return other.result
            if isinstance(other.error, Rejected):
                raise copy.copy(other.error)
            # Whoever read had less time, perhaps, or was ended: now somebody else reads.
        raise TooLate

    def _sleep(self, other: Reading, until: float) -> None:
        """Until another one's reading has ended, at most so long."""
        try:
            while not other.ended and (left := until - time.monotonic()) > 0:
                other.bell.acquire(timeout=left)
        finally:
            self._ring(other)  # the next of those who wait for the same

    def _end(self, name: Hashable, own: Reading) -> None:
        self._guard.run(self._table.leave, name, own)
        self._ring(own)

    def _ring(self, reading: Reading) -> None:
        self._guard.run(_unlock, reading.bell)


def _unlock(bell: Any) -> None:
    if bell.locked():
        bell.release()
