"""Tasks that wait for the result of a draw: one task of the client asks for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

from flashsale.errors import FlashSaleError
from flashsale.models import Answer
from flashsale.window import NOT_YET

Ask = Callable[[], Awaitable[Answer]]


class Watch:
    """Looks whether a result is there, until it is or nobody waits any more.

    It also ends when a question fails. Whoever waited then asks for itself, and is told.
    """

    def __init__(self, ask: Ask, pauses: Iterator[float]) -> None:
        self.ended = False
        self._waiting = 0
        self._task = asyncio.create_task(self._look(ask, pauses))

    async def wait(self, seconds: float) -> None:
        """Until it ends, at most so long."""
        self._waiting += 1
        try:
            await asyncio.wait([self._task], timeout=seconds)
        finally:
            self._waiting -= 1
            if not self._waiting:
                self.ended = True
                self._task.cancel()

    async def _look(self, ask: Ask, pauses: Iterator[float]) -> None:
        try:
            for pause in pauses:
                await asyncio.sleep(pause)
                if (await ask()).outcome not in NOT_YET:
                    return
        except FlashSaleError:
            return
        finally:
            self.ended = True


class Watches:
    """A client's, by sale and cue; one for all that wait for the same draw."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Watch] = {}

    def get(self, sale: str, cue: str) -> Watch | None:
        """The one that looks for a cue now."""
        watch = self._found.get((sale, cue))
        return None if watch is None or watch.ended else watch

    def join(self, sale: str, cue: str, ask: Ask, pauses: Iterator[float]) -> Watch:
        """The same, or a new one that asks so after such pauses."""
        watch = self.get(sale, cue)
        if watch is None:
            self._found = {key: other for key, other in self._found.items() if not other.ended}
            watch = self._found[sale, cue] = Watch(ask, pauses)
        return watch
