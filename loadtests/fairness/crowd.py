"""Viewers of one drop: when their taps arrive, and what their players say of the stream.

Lags are log-normal with medians 1.4, 3.5, 6.5 and 10.5 s, reactions Normal(0.40, 0.08) +
Exponential(0.35) s, the way to the server log-normal with a median of 40 ms: an assumed, typical
shape. Among them are bots that tap within 30 ms, players that claim to have tapped at once, people
who tap before they see the cue, and people who tap twice.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.float64]

MEDIANS_S = (1.4, 3.5, 6.5, 10.5)
SIGMAS = (0.12, 0.20, 0.20, 0.15)
SHARES = (0.30, 0.30, 0.30, 0.10)
POSITION_ERROR_MS = 50
BOTS, LIARS, TOO_SOON, TWICE = 0.01, 0.05, 0.02, 0.10


@dataclass(frozen=True)
class Crowd:
    """Who taps, an array element a viewer; times in milliseconds after the cue.

    `arrival_ms`: by the server's clock. `position_ms`: by the player. `cohort` is the index of the
    median lag, `lag_ms` the viewer's own. `early` and `again` are viewers with another tap before
    and after that.
    """

    cohort: npt.NDArray[np.int64]
    lag_ms: Times
    arrival_ms: Times
    position_ms: Times
    bots: npt.NDArray[np.bool_]
    early: npt.NDArray[np.bool_]
    again: npt.NDArray[np.bool_]

    @property
    def size(self) -> int:
        """How many viewers."""
        return len(self.cohort)

    def only(self, chosen: npt.NDArray[np.bool_]) -> Crowd:
        """Some of them, numbered anew."""
        return Crowd(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def taps(self) -> tuple[npt.NDArray[np.int64], Times, Times]:
        """All taps in the order of their arrival: viewer, arrival, position."""
        everybody = np.arange(self.size)
        # Whose player shows what lies before the cue is told TOO_EARLY, and taps again.
        failed = np.flatnonzero(self.position_ms < 0)
        early, again = np.flatnonzero(self.early), np.flatnonzero(self.again)
        parts = [
            (who, self.arrival_ms[who] + later, self.position_ms[who] + later)
            for who, later in ((everybody, 0), (failed, 500), (early, -900), (again, 300))
        ]
        viewer, arrival, position = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.argsort(arrival, kind="stable")
        return viewer[order], arrival[order], position[order]


def make_crowd(seed: int, viewers: int, *, bias_ms: float, spread_ms: float = 0.0) -> Crowd:
    """A crowd; `bias_ms`: how much later than the fastest cohort's players the slowest's claim."""
    chance = np.random.default_rng(seed)
    cohort = chance.choice(len(SHARES), size=viewers, p=SHARES)
    lag_s = np.array(MEDIANS_S)[cohort] * np.exp(
        np.array(SIGMAS)[cohort] * chance.standard_normal(viewers)
    )
    reaction_s = np.maximum(0.05, chance.normal(0.40, 0.08, viewers)) + chance.exponential(
        0.35, viewers
    )
    bots = chance.random(viewers) < BOTS
    reaction_s[bots] = chance.uniform(0, 0.03, int(bots.sum()))
    uplink_s = 0.04 * np.exp(0.5 * chance.standard_normal(viewers))
    position_ms = 1_000 * reaction_s + chance.normal(0, POSITION_ERROR_MS, viewers)
    position_ms += bias_ms * cohort / (len(SHARES) - 1)
    liars = ~bots & (chance.random(viewers) < LIARS)
    position_ms[liars] = chance.uniform(0, 50, int(liars.sum()))
    return Crowd(
        cohort=cohort,
        lag_ms=1_000 * lag_s,
        arrival_ms=1_000 * (lag_s + reaction_s + uplink_s)
        + spread_ms * np.random.default_rng(seed + 1).random(viewers),
        position_ms=position_ms,
        bots=bots,
        early=chance.random(viewers) < TOO_SOON,
        again=chance.random(viewers) < TWICE,
    )
