"""Counters that wrap: the nearest unwrapped value, and ticks as milliseconds."""

from __future__ import annotations

from flashsale.limits import check_int


def ticks_between(earlier: int, later: int, *, bits: int) -> int:
    """By how many ticks one reading of a wrapping counter lies after another.

    Modulo 2^bits, from -2^(bits-1) to 2^(bits-1) - 1: right as long as the two moments are less
    than half a turn apart.
    """
    turn = 1 << bits
    check_int("earlier", earlier, 0, turn - 1)
    check_int("later", later, 0, turn - 1)
    half = turn >> 1
    return (later - earlier + half) % turn - half


def to_ms(ticks: int, rate: int) -> int:
    """Ticks of a clock of `rate` Hz as milliseconds, halves rounded up: pure integers."""
    return (2_000 * ticks + rate) // (2 * rate)


class Unwrapped:
    """A wrapping counter of so many bits, continued without end.

    Each reading is taken as the one nearest to the last, so that reordered frames (B-frames) and
    a wrap both come out right. The first reading counts as it is.
    """

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self._last: int | None = None

    def near_last(self, reading: int) -> int:
        """The continued value of a reading, without remembering it."""
        if self._last is None:
            return check_int("reading", reading, 0, (1 << self.bits) - 1)
        last = self._last % (1 << self.bits)
        return self._last + ticks_between(last, reading, bits=self.bits)

    def follow(self, reading: int) -> int:
        """The continued value of a reading, which becomes the last one."""
        self._last = self.near_last(reading)
        return self._last
