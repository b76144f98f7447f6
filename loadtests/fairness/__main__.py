"""Measure how fair the windows are, beside first come, first served, through the real engine."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from flashsale import FlashSale
from loadtests.fairness import extras, measures, picture, spreading
from loadtests.fairness.crowd import make_crowd
from loadtests.fairness.drops import KEY, Stage
from loadtests.targets import report

BIAS_MS = 300


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print; 0 unless what is promised and not measured is broken.

    Shares and ratios are a matter of chance and of bounds, so they may miss. Nothing may be
    oversold, won twice or not verify, and the list of winners is one, however the taps arrive.
    """
    options = _parser().parse_args(argv)
    drops, viewers = (10, 20_000) if options.quick else (100, 100_000)
    drops, viewers = options.drops or drops, options.viewers or viewers
    units, begun = viewers // 10, time.monotonic()
    with (
        Console(stderr=True).status("starting a server") as status,
        FlashSale.embedded(keys=[KEY], timeout_ms=60_000) as shop,
    ):
        stage, tallies = Stage(shop), (measures.Tally(), measures.Tally())
        for number in range(drops):
            for tally, bias in zip(tallies, (0, BIAS_MS), strict=True):
                status.update(f"drop {number + 1} of {drops}, bias {bias} ms")
                crowd = make_crowd(10_000 + number, viewers, bias_ms=bias)
                tally.add(crowd, stage.run(f"drop-{number}-{bias}", crowd, units))
        lines = measures.figures(*tallies)
        status.update("permutations")
        lines.append(extras.permutations(shop, *((50, 200) if options.quick else (10_000, 1_000))))
        status.update("spread")
        lines += spreading.figures(stage, viewers)
        if options.entrants:
            status.update(f"{options.entrants:,} entrants")
            lines += extras.million(shop, options.entrants)
        setup = report.setup_of(
            f"{shop.server().name} {shop.server().version}",
            False,
            durability="memory",
            drops=drops,
            viewers=viewers,
            units=units,
            seconds=round(time.monotonic() - begun),
        )
    if options.png:
        picture.draw_rates(tallies[0], options.png)
    if options.json:
        print(report.as_json(setup, lines))
    elif options.markdown:
        print(report.as_markdown(setup, lines))
    else:
        report.print_table(setup, lines)
    broken = [line for line in lines if line.must and line.verdict != "PASS"]
    for line in broken:
        sys.stderr.write(f"broken: {line.name} is {line.value:g}, not {line.bound:g}\n")
    return 1 if broken else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.fairness", description=(__doc__ or "").splitlines()[0]
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for programs")
    form.add_argument("--markdown", action="store_true", help="for a README")
    parser.add_argument("--quick", action="store_true", help="10 drops of 20,000 viewers")
    parser.add_argument("--drops", type=int, metavar="N", help="how many drops, each twice")
    parser.add_argument("--viewers", type=int, metavar="N", help="in a drop; a tenth of them wins")
    parser.add_argument(
        "--entrants", type=int, default=0, metavar="N", help="also what N entrants of a cue cost"
    )
    parser.add_argument("--png", type=Path, metavar="FILE", help="a picture, also .svg")
    return parser


if __name__ == "__main__":
    sys.exit(main())
