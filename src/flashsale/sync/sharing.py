"""What several threads (or greenlets) need at the same time is read once, for all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from concurrent.futures import CancelledError, Future
from functools import partial
from threading import Lock
from typing import Any, TypeVar

from flashsale.attempts import out_of_time
from flashsale.errors import FlashSaleError, Rejected, StoreUnavailable

T = TypeVar("T")


class Readings:
    """A client's, by what is read."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, Future[Any]] = {}
        self._lock = Lock()

    def share(self, name: Hashable, read: Callable[[int], T], limit_ms: int) -> T:
        """What is read, by whoever asks first; StoreUnavailable if it takes longer than that.

        read: is given the milliseconds that are left.
        """
        deadline = time.monotonic() + limit_ms / 1000
        left_ms = limit_ms
        while left_ms > 0:
            with self._lock:
                reading = self._under_way.get(name)
                if reading is None:
                    own = self._under_way[name] = Future()
            if reading is None:
                read_here: T = self._read(name, own, partial(read, left_ms))
                return read_here
            try:
                result: T = reading.result(deadline - time.monotonic())
                return result
            except TimeoutError:
                break
            except Rejected:
                raise
            except (FlashSaleError, CancelledError):
                # Whoever read had less time, perhaps, or was ended: now somebody else reads.
                left_ms = int((deadline - time.monotonic()) * 1000)
        raise StoreUnavailable(out_of_time(limit_ms))

    def _read(self, name: Hashable, own: Future[T], read: Callable[[], T]) -> T:
        try:
            result = read()
        except FlashSaleError as error:
            self._end(name)
            own.set_exception(error)
            raise
        except BaseException:
            # A killed greenlet's GreenletExit, a SystemExit: it is meant for this caller alone.
            self._end(name)
            own.cancel()
            raise
        self._end(name)
        own.set_result(result)
        return result

    def _end(self, name: Hashable) -> None:
        with self._lock:
            self._under_way.pop(name, None)
