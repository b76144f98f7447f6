"""What several tasks need at the same time is read once, for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

from flashsale.attempts import out_of_time
from flashsale.errors import StoreUnavailable

T = TypeVar("T")


class Readings:
    """A client's, by what is read."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, asyncio.Future[Any]] = {}

    async def share(self, name: Hashable, read: Callable[[], Awaitable[T]], limit_ms: int) -> T:
        """What is read, by whoever asks first; StoreUnavailable if it takes longer than that."""
        reading = self._under_way.get(name)
        if reading is None:
            reading = asyncio.ensure_future(read())
            self._under_way[name] = reading
            reading.add_done_callback(lambda done: self._end(name, done))
        try:
            async with asyncio.timeout(limit_ms / 1000):
                # One caller who is cancelled must not take it from the others.
                result: T = await asyncio.shield(reading)
                return result
        except TimeoutError:
            raise StoreUnavailable(out_of_time(limit_ms)) from None

    def _end(self, name: Hashable, reading: asyncio.Future[Any]) -> None:
        self._under_way.pop(name, None)
        if not reading.cancelled():
            reading.exception()  # whoever waits is told; nobody may wait any more
