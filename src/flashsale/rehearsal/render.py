"""A rehearsal for people: live progress on standard error, and the report as tables."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flashsale.errors import ConfigurationError
from flashsale.rehearsal.report import Report

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.table import Table

    from flashsale.rehearsal.driver import OnProgress, Progress

BLOCKS = " ▁▂▃▄▅▆▇█"
ASCII_BLOCKS = " .:-=+*#@"

SKUS_SHOWN = 8
PICTURE_ROWS = 2


def require_rich() -> None:
    """Raise ConfigurationError if rich is not installed."""
    try:
        import rich  # noqa: F401
    except ImportError as error:
        raise ConfigurationError("this output needs rich: pip install 'flashsale[cli]'") from error


@contextmanager
def live_progress(*, wanted: bool = True) -> Iterator[OnProgress | None]:
    """Show progress on standard error; yields what `run` takes as `on_progress`.

    Yields None, and shows nothing, if it is not wanted or standard error is no terminal.
    """
    if not wanted or not sys.stderr.isatty():
        yield None
        return
    require_rich()
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    # Drawn in the run's own thread, four times a second: a thread of its own would take the
    # interpreter from the generator at any moment.
    with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:
        yield lambda progress: live.update(Text(progress_line(progress)), refresh=True)


def progress_line(progress: Progress) -> str:
    """One moment of a run in one line."""
    if not progress.offered:
        return {"start": "laying out the crowd ...", "check": "checking the books ..."}.get(
            progress.phase, "starting ..."
        )
    done = progress.offered / progress.total if progress.total else 0.0
    bar = "=" * round(10 * done)
    word = "  settling  " if progress.phase == "settle" else f"[{bar:<10}]"
    dropped = f"  dropped {progress.dropped:,}" if progress.dropped else ""
    return (
        f"{progress.elapsed_s:4.1f} s {word}  offered {progress.offered:,}  "
        f"answered {progress.completed:,}{dropped}  held {progress.held:,}  "
        f"paid {progress.confirmed:,}"
    )


def show(report: Report, console: Console | None = None) -> None:
    """Print the report, on standard output unless another console is given."""
    require_rich()
    from rich.console import Console

    console = console or Console()
    console.print(render(report, ascii_only=not console.encoding.lower().startswith("utf")))


def render(report: Report, *, ascii_only: bool = False, title: str = "Rehearsal") -> Group:
    """The report as something that a rich console prints, 80 columns wide and more."""
    require_rich()
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    side_by_side = Table.grid(padding=(0, 4))
    side_by_side.add_row(_load(report), _outcomes(report))
    blocks = ASCII_BLOCKS if ascii_only else BLOCKS
    return Group(
        _headline(report, title),
        Text(_setup(report)),
        Text(""),
        Text("\n".join(picture(report, blocks)), no_wrap=True, overflow="crop"),
        Text(""),
        side_by_side,
        Text(""),
        _stock(report),
        Text(""),
        _verdict(report),
    )


def picture(report: Report, blocks: str = BLOCKS) -> list[str]:
    """Attempts due, answered and held, and later steps, over the time of the run."""
    course = report.picture
    rows = {
        "offered": course.offered,
        "answered": course.answered,
        "held": course.held,
        "pay, cancel": course.later,
    }
    top = max(max(values) for values in rows.values()) or 1.0
    lines = []
    for name, values in rows.items():
        drawn = bars(values, top, PICTURE_ROWS, blocks)
        lines += [f"{'':>11}  {line}" for line in drawn[:-1]]
        lines.append(f"{name:>11}  {drawn[-1]}  {max(values):,.0f}/s")
    width = len(course.offered)
    end = f"{report.seconds:g} s"
    lines.append(f"{'':>11}  0{end:>{width - 1}}")
    return lines


def bars(values: Sequence[float], top: float, rows: int, blocks: str = BLOCKS) -> list[str]:
    """A bar chart, highest row first; `top` is the value that fills all rows."""
    steps = len(blocks) - 1
    heights = [round(value / top * rows * steps) for value in values]
    return [
        "".join(blocks[min(steps, max(0, height - row * steps))] for height in heights)
        for row in reversed(range(rows))
    ]


def _headline(report: Report, title: str) -> Any:
    from rich.text import Text

    verdicts = {0: ("passed", "bold green"), 1: ("FAILED", "bold red")}
    word, style = verdicts.get(report.exit_code, ("VOID: this run does not count", "bold yellow"))
    return Text.assemble(f"{title} of ", (report.scenario, "bold"), ": ", (word, style))


def _setup(report: Report) -> str:
    setup = report.setup
    where = "embedded" if setup.server.embedded else "given"
    return (
        f"{setup.about}\n"
        f"{setup.scale}: {setup.peak_per_s:,.0f} attempts/s at the peak for "
        f"{setup.full_peak_per_s:,.0f}/s, {setup.seconds:g} s for "
        f"{setup.seconds * setup.time_factor:g} s\n"
        f"{report.server} ({where}, {setup.server.address}), durability {report.durability}, "
        f"{setup.cores} cores, seed {setup.seed}"
    )


def new_table(*columns: str) -> Table:
    """A plain table; every column but the first is of figures."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1))
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    return table


def _load(report: Report) -> Table:
    table = new_table("Load", "")
    rows: list[tuple[str, str]] = [
        ("offered", f"{report.offered:,}"),
        ("completed", f"{report.completed:,}"),
        ("dropped", f"{report.dropped:,}"),
    ]
    if report.unanswered:
        rows.append(("unanswered", f"{report.unanswered:,}"))
    rows += [
        ("decisions/s", f"{report.decisions_per_s:,.0f}"),
        ("  at the peak", f"{report.peak_decisions_per_s:,.0f}"),
        ("latency p50", f"{report.latency_ms.p50:.1f} ms"),
        ("latency p99", f"{report.latency_ms.p99:.1f} ms"),
        ("latency p99.9", f"{report.latency_ms.p99_9:.1f} ms"),
        ("latency p99.99", f"{report.latency_ms.p99_99:.1f} ms"),
        ("later steps p99", f"{report.later_latency_ms.p99:.1f} ms"),
        ("schedule lag p99", f"{report.schedule_lag_ms.p99:.1f} ms"),
        ("generator CPU", f"{report.generator_cpu:.0%}"),
    ]
    if report.batch.max:
        rows.append(("batch, median/max", f"{report.batch.median}/{report.batch.max}"))
    if report.setup.server.cpu is not None:
        rows.append(("server CPU", f"{report.setup.server.cpu:.0%}"))
    for row in rows:
        table.add_row(*row)
    return table


def _outcomes(report: Report) -> Table:
    table = new_table("Outcomes", "")
    for verb, counts in {"hold": report.outcomes, **report.later}.items():
        for outcome, count in counts.items():
            table.add_row(f"{verb}: {outcome}", f"{count:,}")
    table.add_row("replayed", f"{report.truth.replayed:,}")
    for error, count in report.errors.items():
        table.add_row(f"error: {error}", f"{count:,}")
    return table


def _stock(report: Report) -> Table:
    table = new_table("Stock", "allotment", "available", "held", "sold")
    for view in report.stock[:SKUS_SHOWN]:
        table.add_row(view.sku, *(f"{n:,}" for n in _units([view])))
    if len(report.stock) > SKUS_SHOWN:
        rest = report.stock[SKUS_SHOWN:]
        table.add_row(f"{len(rest)} more", *(f"{n:,}" for n in _units(rest)))
    if len(report.stock) > 1:
        table.add_section()
        table.add_row("all", *(f"{n:,}" for n in _units(report.stock)))
    return table


def _units(views: Sequence[Any]) -> list[int]:
    fields = ("allotment", "available", "held", "sold")
    return [sum(getattr(view, field) for view in views) for field in fields]


def _verdict(report: Report) -> Any:
    from rich.text import Text

    truth = report.truth
    conserved = "holds" if report.conservation_ok else "is BROKEN"
    books = (
        f"Audit: {report.oversold:,} units oversold, {report.lost:,} acknowledged orders lost, "
        f"conservation {conserved}; all {truth.checked:,} acknowledged holds were compared with "
        f"the server."
    )
    text = Text(books, style="green" if truth.ok else "bold red")
    for problem in truth.problems:
        text.append(f"\n  {problem}", style="red")
    if truth.problem_count > len(truth.problems):
        text.append(f"\n  and {truth.problem_count - len(truth.problems):,} more", style="red")
    for reason in report.void:
        text.append(f"\nVoid: {reason}", style="yellow")
    for note in report.notes:
        text.append(f"\nNote: {note}", style="default")
    text.append(f"\nTook {report.total_s:.1f} s in all.", style="default")
    return text
