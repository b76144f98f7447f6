"""The room over time, as an operator's process sees it: a client of its own, asking regularly.

Everything that is said of the room as a whole comes from these samples, everything that is said of
people from their own answers.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import Sequence

from msgspec import Struct

from flashsale.aio import AsyncQueueHandle
from flashsale.errors import FlashSaleError
from flashsale.rooms import RoomView

SAMPLE_EVERY_S = 0.1


class Sample(Struct, frozen=True, gc=False):
    """The room at one moment: `at_s` of the run, `at_ms` of the server.

    outstanding is counted from the turns themselves, not taken from what the room says of it.
    units: taken in all turns, ended_units: in those that have ended. vacant: places that were left
    and are still to be passed over, ended_passed: those that were and whose time is over.
    """

    at_s: float
    at_ms: int
    open: bool
    joined: int
    serving: int
    over: int
    outstanding: int
    bound: int
    conversion: float
    arrived: int
    no_shows: int
    vacant: int
    ended_passed: int
    units: int
    ended_units: int
    available: int
    set_aside: int
    held: int
    sold: int

    @property
    def waiting(self) -> int:
        """Those who have a place that was not called."""
        return self.joined - self.serving - self.vacant

    @property
    def gone(self) -> bool:
        """Nothing is left that could be held or come back."""
        return self.available + self.set_aside + self.held == 0


def sample_of(view: RoomView, at_s: float) -> Sample:
    """What is kept of a view."""
    done = sum(turns.done for turns in view.turns)
    passed = sum(turns.passed for turns in view.turns)
    return Sample(
        at_s=at_s,
        at_ms=view.at_ms,
        open=view.present is not None,
        joined=view.joined,
        serving=view.serving,
        over=view.over,
        outstanding=view.serving - view.over - done - passed,
        bound=view.bound,
        conversion=view.conversion,
        arrived=view.arrived,
        no_shows=view.no_shows,
        vacant=view.vacant,
        ended_passed=view.passed - passed,
        units=view.units + sum(turns.units for turns in view.turns),
        ended_units=view.units,
        available=view.available,
        set_aside=view.set_aside,
        held=view.held,
        sold=view.sold,
    )


class Watcher:
    """Samples a room until it is told to stop."""

    def __init__(self, queue: AsyncQueueHandle, start: float) -> None:
        self._queue = queue
        self._start = start
        self.samples: list[Sample] = []
        self.last: RoomView | None = None
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Look ten times a second; what cannot be read is missing."""
        while not self._over.is_set():
            await self.look()
            try:
                await asyncio.wait_for(self._over.wait(), SAMPLE_EVERY_S)
            except TimeoutError:
                continue

    async def look(self) -> None:
        """One sample."""
        before = time.perf_counter()
        try:
            view = await self._queue.view()
        except FlashSaleError:
            return
        middle = (before + time.perf_counter()) / 2 - self._start
        self.samples.append(sample_of(view, middle))
        self.last = view

    def stop(self) -> None:
        """End it after the sample under way."""
        self._over.set()


class Course:
    """When places were called, by the samples: to within a tenth of a second."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples
        self._serving = [sample.serving for sample in samples]

    def called_between_ms(self, place: int) -> tuple[int, int] | None:
        """The last moment at which a place was not called yet, and the first at which it was."""
        at = bisect_left(self._serving, place)
        if at == len(self.samples):
            return None
        before = self.samples[at - 1].at_ms if at else 0
        return before, self.samples[at].at_ms

    def called_ms(self, place: int) -> int | None:
        """When a place was called; None if it never was."""
        found = self.called_between_ms(place)
        return None if found is None else found[1]
