"""The figures of all drops, each with the noise of a perfect lottery beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import stats

from loadtests.fairness.crowd import MEDIANS_S, SHARES, Crowd
from loadtests.fairness.drops import Drop
from loadtests.targets.figures import Figure
from loadtests.targets.figures import peers as beside

SUBJECT = "fairness"
COHORTS = len(SHARES)
FCFS = "first come, first served"

Counts = npt.NDArray[np.int64]


@dataclass
class Tally:
    """Viewers and wins by cohort, of every drop of one kind."""

    viewers: list[Counts] = field(default_factory=list)
    windows: list[Counts] = field(default_factory=list)
    first_come: list[Counts] = field(default_factory=list)
    bots: list[tuple[int, int, int]] = field(default_factory=list)  # bots, wins, wins first come
    oversold: int = 0
    twice: int = 0
    unverified: int = 0

    def add(self, crowd: Crowd, drop: Drop) -> None:
        def count(chosen: npt.NDArray[np.bool_] | slice) -> Counts:
            return np.bincount(crowd.cohort[chosen], minlength=COHORTS)

        self.viewers.append(count(slice(None)))
        self.windows.append(count(drop.windows.won))
        self.first_come.append(count(drop.first_come))
        bots = crowd.bots
        wins = int((drop.windows.won & bots).sum()), int((drop.first_come & bots).sum())
        self.bots.append((int(bots.sum()), *wins))
        self.oversold += drop.windows.oversold
        self.twice += drop.windows.twice
        self.unverified += drop.windows.unverified

    def rates(self, wins: Sequence[Counts]) -> npt.NDArray[np.float64]:
        """The part of each cohort's viewers that won, over all drops."""
        found: npt.NDArray[np.float64] = sum(wins) / sum(self.viewers)  # type: ignore[assignment]
        return found


def figures(plain: Tally, biased: Tally | None) -> list[Figure]:
    """One line a figure. A bound is what a perfect lottery gives, and three standard errors."""
    lines = [_fastest(plain), _parity(plain, "")]
    if biased is not None:
        lines.append(_parity(biased, " under a bias of 300 ms"))
    lines += [_variation(plain), _uniform(plain), _bots(plain)]
    tallies = [plain] if biased is None else [plain, biased]
    lines.append(
        Figure(
            subject=SUBJECT, name="oversold, won twice, records that do not verify", unit="",
            value=sum(t.oversold + t.twice + t.unverified for t in tallies), bound=0, must=True,
        )
    )  # fmt: skip
    return lines


def _fastest(tally: Tally) -> Figure:
    wins, viewers = sum(tally.windows), sum(tally.viewers)
    total, fair = int(np.sum(wins)), float(viewers[0] / np.sum(viewers))  # type: ignore[index]
    share = float(wins[0]) / total  # type: ignore[index]
    error = _error(fair, total, int(np.sum(viewers)))
    first: float = float(sum(w[0] for w in tally.first_come)) / float(np.sum(tally.first_come))
    return Figure(
        subject=SUBJECT, name="stock share of the fastest cohort, pooled", value=100 * share,
        unit="%", bound=100 * (fair + 3 * error), peers=beside({FCFS: 100 * first}),
        note=f"fair: {100 * fair:.2f} ± {100 * error:.2f}; {total:,} wins",
    )  # fmt: skip


def _parity(tally: Tally, more: str) -> Figure:
    wins, rates = sum(tally.windows), tally.rates(tally.windows)
    first = tally.rates(tally.first_come)
    left = 1 - float(np.sum(wins)) / float(np.sum(tally.viewers))
    error = math.sqrt(left / float(wins[0]) + left / float(wins[-1]))  # type: ignore[index]
    each = ", ".join(f"{100 * rate:.2f}" for rate in rates)
    return Figure(
        subject=SUBJECT, name=f"win rate of the slowest cohort ÷ the fastest's{more}, pooled",
        value=float(rates[-1] / rates[0]), unit="×", bound=round(1 - 3 * error, 4), at_least=True,
        peers=beside({FCFS: float(first[-1] / first[0])}),
        note=f"standard error {error:.4f}; win rates {each} % at {MEDIANS_S} s of lag",
    )  # fmt: skip


def _variation(tally: Tally) -> Figure:
    """Total variation between who won and who was there, of one drop, on the average."""
    chance = np.random.default_rng(5)

    def apart(wins: Counts, viewers: Counts) -> float:
        return float(np.abs(wins / wins.sum() - viewers / viewers.sum()).sum() / 2)

    ours = [apart(w, v) for w, v in zip(tally.windows, tally.viewers, strict=True)]
    first = [apart(w, v) for w, v in zip(tally.first_come, tally.viewers, strict=True)]
    perfect = [
        apart(wins, viewers)
        for viewers, won in zip(tally.viewers, tally.windows, strict=True)
        for wins in chance.multivariate_hypergeometric(viewers, int(won.sum()), 200)
    ]
    noise, error = float(np.mean(perfect)), float(np.std(perfect)) / math.sqrt(len(ours))
    return Figure(
        subject=SUBJECT, name="total variation from the fair share, one drop", unit="",
        value=float(np.mean(ours)), bound=noise + 3 * error,
        peers=beside({FCFS: float(np.mean(first))}),
        note=f"a perfect lottery: {noise:.4f} ± {error:.4f}",
    )  # fmt: skip


def _uniform(tally: Tally) -> Figure:
    """Whether the chi-square tests of all drops look as those of perfect lotteries do."""
    values = []
    for wins, viewers in zip(tally.windows, tally.viewers, strict=True):
        crowd, won = int(viewers.sum()), int(wins.sum())
        expected = viewers * won / crowd
        statistic = float(((wins - expected) ** 2 / expected).sum()) * (crowd - 1) / (crowd - won)
        values.append(float(stats.chi2.sf(statistic, COHORTS - 1)))
    return Figure(
        subject=SUBJECT, name="chi-square p over the drops: Kolmogorov-Smirnov p against uniform",
        value=float(stats.kstest(values, "uniform").pvalue), unit="", bound=0.01, at_least=True,
        note=f"{len(values)} drops, p from {min(values):.3f} to {max(values):.3f}",
    )  # fmt: skip


def _bots(tally: Tally) -> Figure:
    bots, wins, first = (sum(column) for column in zip(*tally.bots, strict=True))
    total, viewers = int(np.sum(tally.windows)), int(np.sum(tally.viewers))
    fair = bots / viewers
    error = _error(fair, total, viewers)
    return Figure(
        subject=SUBJECT, name="stock share of 1 % bots that tap within 30 ms", unit="%",
        value=100 * wins / total, bound=100 * (fair * 1.0006 + 3 * error),
        peers=beside({FCFS: 100 * first / float(np.sum(tally.first_come))}),
        note=f"fair: {100 * fair:.3f} ± {100 * error:.3f}",
    )  # fmt: skip


def _error(share: float, wins: int, viewers: int) -> float:
    """The standard error of a share of wins drawn from viewers without putting back."""
    return math.sqrt(share * (1 - share) / wins * (1 - wins / viewers))
