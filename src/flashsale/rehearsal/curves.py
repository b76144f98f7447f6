"""Arrival curves: how many attempts a second, as a function of the second of the surge.

A curve is a frozen value. `rate(t)` is in attempts a second, `total(t)` the attempts in
[0, t), both at full size and in real seconds; a run divides them afterwards and says so.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Protocol

from msgspec import Struct

from flashsale.errors import InvalidRequest


class Curve(Protocol):
    """What an arrival curve must be able to say.

    source: where its shape and height come from, in one sentence.
    ends_s: the last second it says anything about; None if it goes on for ever.
    """

    @property
    def source(self) -> str:
        """Where the curve comes from."""

    @property
    def ends_s(self) -> float | None:
        """The last second the curve describes."""

    def rate(self, second: float) -> float:
        """Attempts a second at that second, 0 before the start."""

    def total(self, second: float) -> float:
        """Attempts from the start to that second."""

    def peak(self, second: float) -> float:
        """The highest rate in [0, second]."""


class SurgeCurve(Struct, frozen=True, kw_only=True):
    """A linear ramp, a plateau, then a power law: the shape of a Double 11.

    rate(t) = P·t/ramp up to `ramp_s`, P up to `plateau_until_s` (u), then P·(u/t)^decay.
    """

    peak_per_s: float
    ramp_s: float
    plateau_until_s: float
    decay: float
    source: str = "assumed"

    def __post_init__(self) -> None:
        for field in ("peak_per_s", "ramp_s"):
            _check_positive(field, getattr(self, field))
        if not self.ramp_s <= self.plateau_until_s < math.inf:
            raise InvalidRequest("plateau_until_s", "must be finite and not before ramp_s")
        if not 0 <= self.decay < math.inf:
            raise InvalidRequest("decay", "must be a finite number from 0")

    @property
    def ends_s(self) -> None:
        """It goes on for ever."""
        return None

    def rate(self, second: float) -> float:
        """Attempts a second at that second."""
        if second <= self.plateau_until_s:
            return self.peak_per_s * min(1.0, max(0.0, second) / self.ramp_s)
        return self.peak_per_s * math.pow(self.plateau_until_s / second, self.decay)

    def total(self, second: float) -> float:
        """Attempts from the start to that second, in closed form."""
        ramped = min(max(0.0, second), self.ramp_s)
        seconds_at_peak = ramped * ramped / (2 * self.ramp_s)
        seconds_at_peak += max(0.0, min(second, self.plateau_until_s) - self.ramp_s)
        if second > self.plateau_until_s:
            stretch = second / self.plateau_until_s
            left = 1 - self.decay
            grown = (stretch**left - 1) / left if left else math.log(stretch)
            seconds_at_peak += self.plateau_until_s * grown
        return self.peak_per_s * seconds_at_peak

    def peak(self, second: float) -> float:
        """The highest rate in [0, second]."""
        return self.rate(min(second, self.ramp_s))


class RushCurve(Struct, frozen=True, kw_only=True):
    """Everybody at once: A·(1 − e^(−t/rise)), one hot sku after "link up"."""

    peak_per_s: float
    rise_s: float = 2.0
    source: str = "assumed"

    def __post_init__(self) -> None:
        for field in ("peak_per_s", "rise_s"):
            _check_positive(field, getattr(self, field))

    @property
    def ends_s(self) -> None:
        """It goes on for ever."""
        return None

    def rate(self, second: float) -> float:
        """Attempts a second at that second."""
        return -self.peak_per_s * math.expm1(-max(0.0, second) / self.rise_s)

    def total(self, second: float) -> float:
        """Attempts from the start to that second, in closed form."""
        second = max(0.0, second)
        seconds_at_peak = second + self.rise_s * math.expm1(-second / self.rise_s)
        return self.peak_per_s * max(0.0, seconds_at_peak)

    def peak(self, second: float) -> float:
        """The highest rate in [0, second]: it only rises."""
        return self.rate(second)


class TableCurve(Struct, frozen=True, kw_only=True, dict=True):
    """Points (second, attempts a second), joined by straight lines; 0 outside them.

    At least two points, seconds rising from 0 or later, rates finite and not negative, and
    not all of them 0.
    """

    points: tuple[tuple[float, float], ...]
    source: str = "given"

    def __post_init__(self) -> None:
        if len(self.points) < 2:
            raise InvalidRequest("points", "must be two or more")
        for number, (second, rate) in enumerate(self.points):
            check_point(f"points[{number}]", second, rate)
        for number, (before, after) in enumerate(pairwise(self.points), start=1):
            check_order(f"points[{number}]", before[0], after[0])
        if not any(rate for _, rate in self.points):
            raise InvalidRequest("points", "must not all have the rate 0")

    @property
    def ends_s(self) -> float:
        """The second of the last point."""
        return self.points[-1][0]

    def rate(self, second: float) -> float:
        """Attempts a second at that second."""
        if not self.points[0][0] <= second <= self.points[-1][0]:
            return 0.0
        place = min(bisect_right(self._seconds, second), len(self.points) - 1)
        (left, low), (right, high) = self.points[place - 1], self.points[place]
        return low + (high - low) * (second - left) / (right - left)

    def total(self, second: float) -> float:
        """Attempts from the start to that second, exactly (trapezes)."""
        if second <= self.points[0][0]:
            return 0.0
        second = min(second, self.points[-1][0])
        place = min(bisect_right(self._seconds, second), len(self.points) - 1)
        left, low = self.points[place - 1]
        return self._totals[place - 1] + (second - left) * (low + self.rate(second)) / 2

    def peak(self, second: float) -> float:
        """The highest rate in [0, second]."""
        seen = [rate for at, rate in self.points if at <= second]
        return max([*seen, self.rate(second)])

    @cached_property
    def _seconds(self) -> list[float]:
        return [second for second, _ in self.points]

    @cached_property
    def _totals(self) -> list[float]:
        trapezes = [(b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(self.points)]
        return list(accumulate(trapezes, initial=0.0))


def check_point(field: str, second: float, rate: float) -> None:
    """One point of a table: both finite, neither negative."""
    for name, value in (("second", second), ("rate", rate)):
        if not 0 <= value < math.inf:
            raise InvalidRequest(f"{field}, {name}", f"must be a finite number from 0, not {value}")


def check_order(field: str, before: float, second: float) -> None:
    """Seconds of a table rise strictly."""
    if second <= before:
        raise InvalidRequest(f"{field}, second", f"must be later than {before:g}, not {second:g}")


def _check_positive(field: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise InvalidRequest(field, f"must be a finite number above 0, not {value}")
