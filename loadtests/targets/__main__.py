"""Measure every stated target in one run and print figure, bound, verdict and peers."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence

import msgspec
from rich.console import Console

from loadtests.targets import (
    client_rate,
    growth,
    latency,
    memory_wire,
    report,
    server_cost,
    sharing,
)
from loadtests.targets.bench import BATCH, Bench
from loadtests.targets.figures import FULL, LONG_ATTEMPTS, QUICK, Figure

SUBJECTS: dict[str, Callable[[Bench], list[Figure]]] = {
    module.SUBJECT: module.measure
    for module in (server_cost, memory_wire, client_rate, latency, sharing, growth)
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print; 0 if everything was measured, whatever the figures say."""
    options = _parser().parse_args(argv)
    sizes = QUICK if options.quick else FULL
    if options.long:
        sizes = msgspec.structs.replace(sizes, attempts=(sizes.attempts[0], LONG_ATTEMPTS))
    begun = time.monotonic()
    figures: list[Figure] = []
    with (
        Console(stderr=True).status("starting a server") as status,
        Bench(sizes, status.update, postgres=options.postgres) as bench,
    ):
        for subject in options.only or SUBJECTS:
            figures += SUBJECTS[subject](bench)
        setup = report.setup_of(
            bench.machine().server.version,
            bench.machine().pinned,
            durability="memory unless named",
            batch=BATCH,
            orders=sizes.orders,
            rounds=sizes.rounds,
            seconds=round(time.monotonic() - begun),
        )
    if options.json:
        print(report.as_json(setup, figures))
    elif options.markdown:
        print(report.as_markdown(setup, figures))
    else:
        report.print_table(setup, figures)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.targets", description=__doc__.splitlines()[0]
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for programs")
    form.add_argument("--markdown", action="store_true", help="for a README")
    parser.add_argument("--quick", action="store_true", help="tiny counts: does it run at all")
    parser.add_argument("--long", action="store_true", help="grow to 10 million attempts")
    names = ", ".join(SUBJECTS)
    parser.add_argument(
        "--only", nargs="+", choices=list(SUBJECTS), metavar="NAME", help=f"some of {names}"
    )
    parser.add_argument("--postgres", metavar="DSN", help="a peer for the fsync level (psycopg 3)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
