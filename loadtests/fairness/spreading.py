"""Players may delay their sending: how much calmer it is, and that the same people win.

An arrival in the window counts by the position of its tap, so delaying the sending, at most by the
cue's spread, changes nobody's window. How far it can lower the peak depends on how widely the
arrivals lie already, which is what the bounds in the notes say.
"""

from __future__ import annotations

import numpy as np

from loadtests.fairness.crowd import Crowd, Times, make_crowd
from loadtests.fairness.drops import LAG_CAP_MS, Stage
from loadtests.targets.figures import Figure

SUBJECT = "fairness"
SEED = 3
BIN_MS = 100
SPREADS_MS = (2_000, 4_000, 5_000)
TARGETS = {2_000: 0.2}
COMPARED_MS = 2_000
STEPS = 400


def figures(stage: Stage, viewers: int) -> list[Figure]:
    """The peak of the fastest cohort and of all, for each spread; and how many winners differ."""
    plain, lines = _crowd(viewers, 0), []
    fastest = plain.cohort == 0
    for spread_ms in SPREADS_MS:
        calm = _crowd(viewers, spread_ms)
        before, after = plain.arrival_ms, calm.arrival_ms
        lines.append(_peak("the fastest cohort", before[fastest], after[fastest], spread_ms))
        lines.append(_peak("all viewers", before, after, spread_ms))
        if spread_ms == COMPARED_MS:
            lines.append(_same(stage, plain, calm, spread_ms))
    return lines


def _crowd(viewers: int, spread_ms: float) -> Crowd:
    """Who may count on the promise: a lag above the cap counts as reaction, so its sending, too."""
    crowd = make_crowd(SEED, viewers, bias_ms=0, spread_ms=spread_ms)
    return crowd.only(crowd.lag_ms <= LAG_CAP_MS)


def _same(stage: Stage, plain: Crowd, calm: Crowd, spread_ms: int) -> Figure:
    """One cue, so one seed: entered by those who send at once, and by the same with delays."""
    units, won = plain.size // 10, []
    for crowd in (plain, calm):
        stage.raw.flushall()
        won.append(stage.windows(f"spread-{spread_ms}", crowd, units, spread_ms=spread_ms).won)
    return Figure(
        subject=SUBJECT, name=f"winners that differ, sending delayed by up to {spread_ms:,} ms",
        value=int((won[0] != won[1]).sum()), unit="", bound=0, must=True,
        note=f"through the server: {plain.size:,} with a lag within the cap, {units:,} units",
    )  # fmt: skip


def _peak(whose: str, plain: Times, calm: Times, spread_ms: int) -> Figure:
    before, after = busiest(plain), busiest(calm)
    return Figure(
        subject=SUBJECT, name=f"peak arrivals of {whose}, spread_ms={spread_ms:,} ÷ none",
        value=after / before, unit="×", bound=TARGETS.get(spread_ms),
        note=f"per {BIN_MS} ms: {after:,} and {before:,}; of this crowd delays drawn evenly give "
        f"{least_even(plain, spread_ms) / before:.3f} at best, and no delays give less than "
        f"{least_of_any(plain, spread_ms) / before:.3f}",
    )  # fmt: skip


def busiest(arrival_ms: Times) -> int:
    """Arrivals in the busiest tenth of a second."""
    return int(np.bincount((arrival_ms // BIN_MS).astype(int)).max())


def least_even(arrival_ms: Times, spread_ms: int) -> float:
    """The peak that is expected of delays drawn evenly: those of a whole spread, evenly."""
    times = np.sort(arrival_ms)
    within = np.searchsorted(times, times + spread_ms, side="right") - np.arange(len(times))
    return float(within.max()) * BIN_MS / spread_ms


def least_of_any(arrival_ms: Times, spread_ms: int) -> float:
    """What no way of delaying can stay below: all who came from a to b arrive until b + spread."""
    times = np.sort(arrival_ms)
    at = np.linspace(0, len(times) - 1, min(STEPS, len(times))).astype(int)
    count = at[None, :] - at[:, None] + 1
    bins = np.ceil((times[at][None, :] - times[at][:, None] + spread_ms) / BIN_MS) + 1
    return float((count[count > 1] / bins[count > 1]).max(initial=0))
