"""Measure a waiting room of ten million people beside other queues, in one run."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from importlib import metadata

from rich.console import Console

from loadtests.targets import report
from loadtests.targets.bench import BATCH, Bench
from loadtests.targets.figures import FULL, Figure
from loadtests.waiting import admission, clients, growth, joins, positions
from loadtests.waiting.people import Crowd, Hall

SUBJECTS: dict[str, Callable[[Hall], list[Figure]]] = {
    module.SUBJECT: module.measure for module in (joins, growth, clients, positions, admission)
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print; 0 if everything was measured, whatever the figures say."""
    options = _parser().parse_args(argv)
    begun = time.monotonic()
    figures: list[Figure] = []
    with (
        Console(stderr=True).status("starting a server") as status,
        Bench(FULL, status.update) as bench,
        closing(Hall(bench, Crowd(options.people))) as hall,
    ):
        for subject in options.only or SUBJECTS:
            figures += SUBJECTS[subject](hall)
        setup = report.setup_of(
            bench.machine().server.version,
            bench.machine().pinned,
            pyjwt=metadata.version("pyjwt"),
            durability="memory",
            batch=BATCH,
            people=options.people,
            seconds=round(time.monotonic() - begun),
        )
    if options.json:
        print(report.as_json(setup, figures))
    elif options.markdown:
        print(report.as_markdown(setup, figures))
    else:
        report.print_table(setup, figures)
    return 0


def _people(text: str) -> int:
    """Whole batches."""
    count = int(text)
    if not 4 * BATCH <= count <= 50_000_000:
        raise argparse.ArgumentTypeError("from 1,024 to 50,000,000")
    return count // BATCH * BATCH


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.waiting", description=(__doc__ or "").splitlines()[0]
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for programs")
    form.add_argument("--markdown", action="store_true", help="for a README")
    parser.add_argument(
        "--people", type=_people, default="10000000", metavar="N", help="who join, from 1,024"
    )
    names = ", ".join(SUBJECTS)
    parser.add_argument(
        "--only", nargs="+", choices=list(SUBJECTS), metavar="NAME", help=f"some of {names}"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
