"""Win rates by lag, both ways, as a picture."""

from __future__ import annotations

from pathlib import Path

from loadtests.fairness.crowd import MEDIANS_S
from loadtests.fairness.measures import FCFS, Tally


def draw_rates(tally: Tally, file: Path) -> None:
    """Write a PNG or an SVG, by the file's name."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.2), layout="constrained")
    places = range(len(MEDIANS_S))
    ways = [(FCFS, tally.first_come, "#cc5555"), ("fairness windows", tally.windows, "#6a8f3a")]
    for shift, (name, wins, colour) in zip((-0.2, 0.2), ways, strict=True):
        rates = 100 * tally.rates(wins)
        bars = axes.bar([at + shift for at in places], rates, 0.38, label=name, color=colour)
        axes.bar_label(bars, fmt="%.2f %%", padding=2, fontsize=9)
    axes.set_xticks(list(places), [f"{lag:g} s" for lag in MEDIANS_S])
    axes.set_xlabel("median lag behind the encoder")
    axes.set_ylabel("viewers who won, %")
    drops, viewers = len(tally.viewers), int(sum(v.sum() for v in tally.viewers))
    axes.set_title(f"{drops} drops, {viewers:,} viewers, through the engine", fontsize=10)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=150)
    pyplot.close(figure)
