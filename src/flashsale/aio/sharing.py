"""What several tasks need at the same time is read once, for all of them."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

from flashsale.errors import FlashSaleError, Rejected
from flashsale.readings import Reading, Table, TooLate

T = TypeVar("T")


class Readings:
    """A client's, by what is read. Whoever reads and is cancelled takes nobody along."""

    def __init__(self) -> None:
        self._table = Table()

    def __len__(self) -> int:
        return len(self._table)

    async def share(
        self,
        name: Hashable,
        read: Callable[[], Awaitable[T]],
        deadline: float,
        *,
        any_age: bool = False,
    ) -> T:
        """What is read, by one of those who ask; TooLate past the deadline.

        any_age: also what somebody has begun to read before this call.
        """
        own = Reading(deadline, asyncio.Event())
        try:
            found = await self._wait(name, own, any_age)
            if found is None:
                result = await read()
                own.result = (result,)
                return result
        except FlashSaleError as error:
            own.error = error
            raise
        finally:
            self._table.leave(name, own)
            own.bell.set()
        value: T = found[0]
        return value

    async def _wait(self, name: Hashable, own: Reading, any_age: bool) -> tuple[Any] | None:
        """The result of somebody's reading; None if it is for this caller to read."""
        while (now := time.monotonic()) < own.until:
            other, counts = self._table.join(name, own, now, any_age)
            if other is None:
                return None
            left = min(own.until, other.until) - time.monotonic()
            try:
                async with asyncio.timeout(left):
                    await other.bell.wait()
            except TimeoutError:
                pass
            if not counts:
                continue
            if other.result is not None:
                return other.result
            if isinstance(other.error, Rejected):
                raise copy.copy(other.error)
            # Whoever read had less time, perhaps, or was cancelled: now somebody else reads.
        raise TooLate
