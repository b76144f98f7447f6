"""Whether a refresh goes on with what is known, is an old copy, or a stream that started over.

Sequence numbers alone cannot tell the last two apart: an encoder that was restarted, or the next
show, counts from the beginning again, and so does a copy that a cache kept. Dates can: a stream
that started over has later ones than any seen before, a copy never has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

from flashsale.streamtime.placing import JUMP_US, Known, Place

RESTART_MS = 10_000
"""Labels of known segments that moved by more than this belong to another stream."""

PATIENCE_MS = 60_000
"""A stream that goes on with earlier dates is believed when nothing else was new for so long."""


class Verdict(Enum):
    """What a refresh is."""

    GOES_ON = "goes on"
    STALE = "stale"
    STARTED_OVER = "started over"


def _moved_ms(known: Known, shifts: Mapping[int, int]) -> int:
    """The farthest that labels have moved which were not in doubt."""
    if not any(shifts.values()):
        return 0
    doubted = {place.discontinuity for place in known.places if place.doubt_ms}
    return max((abs(ms) for n, ms in shifts.items() if n not in doubted), default=0)


class Judge:
    """Remembers the latest label ever accepted, and the refresh that may have started over."""

    def __init__(self) -> None:
        self._furthest_us: int | None = None
        self._suspect: tuple[Place, int] | None = None

    def judge(
        self, places: Sequence[Place], known: Known, shifts: Mapping[int, int], server_ms: int
    ) -> Verdict:
        """What a refresh is whose places and shifts, by discontinuity, are these.

        `shifts` is empty if it has no segment in common with what is known. Labels that were in
        doubt may move by any time: a date has come.
        """
        if not known:
            return Verdict.GOES_ON
        moved_ms = _moved_ms(known, shifts)
        newest, common = places[-1], bool(shifts)
        later = self._is_later(newest)
        if newest.order >= known.last.order and moved_ms <= RESTART_MS:
            # Without a common segment dates must go on, too: or it is a copy of an earlier show.
            if common or later is not False:
                return Verdict.GOES_ON
        elif later and not (common and moved_ms * 1_000 <= JUMP_US):
            return Verdict.STARTED_OVER
        elif common and moved_ms <= RESTART_MS:
            return Verdict.STALE
        return self._wait(newest, server_ms)

    def accept(self, added: Sequence[Place]) -> None:
        """Places that were new were taken in."""
        ends = [place.end_us for place in added if place.end_us is not None]
        if self._furthest_us is not None:
            ends.append(self._furthest_us)
        self._furthest_us = max(ends, default=None)
        if added:
            self._suspect = None

    def _is_later(self, newest: Place) -> bool | None:
        """Whether a refresh ends later than anything before; None if it has no dates."""
        if newest.end_us is None or self._furthest_us is None:
            return None
        return newest.end_us > self._furthest_us + JUMP_US

    def _wait(self, newest: Place, server_ms: int) -> Verdict:
        """A copy in a cache does not grow; what alone grows as time passes is the stream."""
        if self._suspect is None:
            self._suspect = (newest, server_ms)
        first, since_ms = self._suspect
        passed_ms = server_ms - since_ms
        if newest.end_us is None or first.end_us is None:
            grew = newest.order > first.order
        else:
            grew = passed_ms / 2 <= (newest.end_us - first.end_us) / 1_000 <= passed_ms * 2
        return Verdict.STARTED_OVER if grew and passed_ms >= PATIENCE_MS else Verdict.STALE
