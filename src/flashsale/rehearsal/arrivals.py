"""Open arrivals: every attempt's intended time, fixed before the run begins."""

from __future__ import annotations

import random
from array import array
from bisect import bisect_left

from flashsale.errors import InvalidRequest
from flashsale.rehearsal.curves import Curve

ATTEMPTS_MAX = 5_000_000
"""Most attempts of one run: all of them are laid out in memory beforehand."""

_CELLS = 20_000


def intended_times(
    curve: Curve, *, seconds: float, time_factor: float, rate_divisor: float, seed: int | str
) -> array[float]:
    """The times, in seconds of the run, of a Poisson process along the curve.

    One second of the run stands for `time_factor` seconds of the curve, and the rate in the
    run is the curve's divided by `rate_divisor`. The times are those at which the integrated
    rate reaches the points of a Poisson process of rate 1 (inversion; Çinlar 1975, chapter
    4.7), so they depend on the seed alone and never on how fast answers come. The inverse is
    taken on a grid of 20,000 cells, straight within a cell.

    Raises InvalidRequest if more than `ATTEMPTS_MAX` are to be expected.
    """
    scale = rate_divisor * time_factor
    expected = curve.total(seconds * time_factor) / scale
    if expected > ATTEMPTS_MAX:
        raise InvalidRequest(
            "scale",
            f"must leave at most {ATTEMPTS_MAX:,} attempts, not {expected:,.0f}: "
            f"use a scale of 1/{rate_divisor * expected / ATTEMPTS_MAX:.0f} or smaller",
        )
    cell = seconds / _CELLS
    reached = [curve.total(at * cell * time_factor) / scale for at in range(_CELLS + 1)]
    draw = random.Random(f"{seed}:arrivals").expovariate
    times = array("d")
    at, level = 0, draw(1.0)
    while level < reached[-1]:
        if reached[at + 1] <= level:
            at = bisect_left(reached, level, at) - 1
        share = (level - reached[at]) / (reached[at + 1] - reached[at])
        times.append((at + share) * cell)
        level += draw(1.0)
    return times
