"""Presentation timestamps of MPEG-TS: 33 bits at 90 kHz.

ISO/IEC 13818-1, 2.4.3.7: a PTS counts 1/90,000 s modulo 2^33 and so starts over every 26.5 hours;
a stream may meet that moment at any time, for encoders start anywhere. Differences are therefore
taken modulo 2^33, and positions are continued across the wrap. In fragmented MP4 the decode time is
64 bits wide and does not wrap; packagers that copy MPEG-TS timestamps carry the wrap over.
"""

from __future__ import annotations

from flashsale.limits import check_int
from flashsale.streamtime.values import DISCONTINUITY_MAX, Sample
from flashsale.streamtime.wrapping import Unwrapped, ticks_between, to_ms

PTS_BITS = 33
PTS_RATE = 90_000

_TURN = 1 << PTS_BITS
_INT64_MAX = 2**63 - 1


def pts_between_ms(earlier: int, later: int) -> int:
    """Milliseconds from one PTS to another, across a wrap too; negative if it lies before.

    Right as long as the two are less than 13 hours apart. Halves are rounded up. Any int is taken
    modulo 2^33: near a wrap FFmpeg hands out negative values, or values of more than 33 bits.
    """
    first, last = _wrapped("earlier", earlier), _wrapped("later", later)
    return to_ms(ticks_between(first, last, bits=PTS_BITS), PTS_RATE)


class PtsTimeline:
    """Turns PTS into positions that go on across the wrap.

    Positions are in milliseconds, rounded from 90 kHz: differences are within 1 ms of those of the
    PTS, which may be any int (see `pts_between_ms`). Each discontinuity starts from its own first
    PTS; going back to an earlier one is refused (InvalidRequest), as its wraps are forgotten.
    Processes that started on two sides of a wrap differ by 2^33 ticks: let one of them feed the
    clock, or compare PTS with `pts_between_ms`.
    """

    def __init__(self) -> None:
        self._discontinuity = 0
        self._ticks = Unwrapped(PTS_BITS)

    def sample(self, pts: int, server_ms: int, discontinuity: int = 0) -> Sample:
        """A sighting for `StreamClock.take`: this PTS was seen at that server time."""
        self._go_to(discontinuity)
        ticks = self._ticks.follow(_wrapped("pts", pts))
        return Sample(to_ms(ticks, PTS_RATE), server_ms, discontinuity)

    def position_ms(self, pts: int) -> int:
        """The position of a PTS of the newest discontinuity, within 13 hours of its last sample."""
        return to_ms(self._ticks.near_last(_wrapped("pts", pts)), PTS_RATE)

    def _go_to(self, discontinuity: int) -> None:
        check_int("discontinuity", discontinuity, self._discontinuity, DISCONTINUITY_MAX)
        if discontinuity > self._discontinuity:
            self._discontinuity = discontinuity
            self._ticks = Unwrapped(PTS_BITS)


def _wrapped(field: str, pts: int) -> int:
    return check_int(field, pts, -_INT64_MAX, _INT64_MAX) % _TURN
