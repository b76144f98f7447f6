"""Whether lag decided who won: win rates by cohort, their parity, and its noise.

In a fair draw of S places among N entrants, a cohort of n wins S·n/N on average, with the variance
of a draw without replacement, S·n/N·(1 − n/N)·(N − S)/(N − 1), and two cohorts a covariance of
−S·n·m/N²·(N − S)/(N − 1). Summed over the cues, and by the delta method, that is the variance of
the ratio of two cohorts' win rates around 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, sqrt

from msgspec import Struct

ERRORS_MAX = 4.0
"""Standard errors by which the parity of a fair draw may differ from 1: more is chance once in
16,000 runs, and what arrival order does to a parity is hundreds of times that."""

EXPECTED_MIN = 10.0
"""Wins that a cohort must be owed for its rate to say anything."""

RULE = f"parity is beyond noise if it differs from 1 by more than {ERRORS_MAX:g} standard errors"


class Draw(Struct, frozen=True):
    """One cue: places given away, and per cohort who took part and who won."""

    places: int
    entrants: Sequence[int]
    wins: Sequence[int]


class Parity(Struct, frozen=True):
    """The slowest cohort's win rate over the fastest's, pooled over all cues.

    ratio: None if the fastest won nothing. error: its standard error if the draws are fair.
    expected: wins that the less favoured of the two is owed.
    """

    ratio: float | None
    error: float
    expected: float

    @property
    def told(self) -> bool:
        """Whether there were wins enough for the ratio to say anything."""
        return self.expected >= EXPECTED_MIN

    @property
    def fair(self) -> bool:
        """Whether the ratio is within the noise of a fair draw."""
        return self.ratio is not None and abs(self.ratio - 1) <= ERRORS_MAX * self.error


def parity_of(draws: Sequence[Draw]) -> Parity:
    """Compare the last cohort with the first."""
    slow_owed = fast_owed = slow_var = fast_var = both = 0.0
    for one in draws:
        everybody = sum(one.entrants)
        places = min(one.places, everybody)
        if everybody < 2:
            continue
        slow, fast = one.entrants[-1] / everybody, one.entrants[0] / everybody
        spread = places * (everybody - places) / (everybody - 1)
        slow_owed += places * slow
        fast_owed += places * fast
        slow_var += spread * slow * (1 - slow)
        fast_var += spread * fast * (1 - fast)
        both -= spread * slow * fast
    expected = min(slow_owed, fast_owed)
    if not expected:
        return Parity(None, inf, 0.0)
    variance = slow_var / slow_owed**2 + fast_var / fast_owed**2
    variance -= 2 * both / (slow_owed * fast_owed)
    slow_rate = _rate(draws, -1)
    fast_rate = _rate(draws, 0)
    ratio = slow_rate / fast_rate if fast_rate else None
    return Parity(ratio, sqrt(max(0.0, variance)), expected)


def _rate(draws: Sequence[Draw], cohort: int) -> float:
    return sum(one.wins[cohort] for one in draws) / sum(one.entrants[cohort] for one in draws)
