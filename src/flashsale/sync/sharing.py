"""What several threads (or greenlets) need at the same time is read once, for all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
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

    def share(self, name: Hashable, read: Callable[[], T], limit_ms: int) -> T:
        """What is read, by whoever asks first; StoreUnavailable if it takes longer than that."""
        deadline = time.monotonic() + limit_ms / 1000
        while True:
            with self._lock:
                reading = self._under_way.get(name)
                if reading is None:
                    own = self._under_way[name] = Future()
            if reading is None:
                read_here: T = self._read(name, own, read)
                return read_here
            try:
                result: T = reading.result(deadline - time.monotonic())
                return result
            except TimeoutError:
                raise StoreUnavailable(out_of_time(limit_ms)) from None
            except Rejected:
                raise
            except FlashSaleError:
                continue  # whoever read had less time, perhaps: now somebody else reads

    def _read(self, name: Hashable, own: Future[T], read: Callable[[], T]) -> T:
        try:
            result = read()
        except BaseException as error:
            own.set_exception(error)
            raise
        else:
            own.set_result(result)
            return result
        finally:
            with self._lock:
                self._under_way.pop(name, None)
