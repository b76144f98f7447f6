"""A live room's rehearsal on one screen: two rows of bars, and what they were checked against."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from flashsale.rehearsal.render import ASCII_BLOCKS, BLOCKS, bars, new_table, require_rich
from flashsale.rehearsal.room.parity import ERRORS_MAX
from flashsale.rehearsal.room.report import RoomReport

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

ROWS = 6
WIDTH, GAP, LABEL = 11, 5, 15


def render_room(report: RoomReport, *, ascii_only: bool = False, title: str = "Rehearsal") -> Group:
    """The report as something that a rich console prints, 80 columns wide and more."""
    require_rich()
    from rich.console import Group
    from rich.text import Text

    return Group(
        _headline(report, title),
        Text(_setup(report)),
        Text(""),
        Text(
            "Who wins, by how late their stream runs "
            f"(fair: {report.fair_rate:.1%} of every cohort)",
            style="bold",
        ),
        Text(""),
        _chart(report, ASCII_BLOCKS if ascii_only else BLOCKS),
        Text(""),
        _cohorts(report),
        Text(""),
        _verdict(report, "+-" if ascii_only else "±"),
    )


def _headline(report: RoomReport, title: str) -> Any:
    from rich.text import Text

    verdicts = {0: ("passed", "bold green"), 1: ("FAILED", "bold red")}
    word, style = verdicts.get(report.exit_code, ("VOID: this run does not count", "bold yellow"))
    return Text.assemble(f"{title} of ", (report.scenario, "bold"), ": ", (word, style))


def _setup(report: RoomReport) -> str:
    where = "embedded" if report.embedded else "given"
    return (
        f"{report.about}\n"
        f"{report.scale}: {report.viewers:,} viewers and {report.units:,} units a sku; every tap is"
        f" sent both ways\n"
        f"The cues of an evening overlap, one every {report.seconds / report.cues:.2g} s; lags, "
        f"reactions and positions are in real time\n"
        f"Windows of {report.window_ms / 1000:g} s, lag cap {report.lag_cap_ms / 1000:g} s, "
        f"seed {report.seed}\n"
        f"{report.server} ({where}, {report.address}), durability {report.durability}, "
        f"{report.cores} cores"
    )


def _chart(report: RoomReport, blocks: str) -> Any:
    """Two rows of bars on one scale: first come, first served above, windows below."""
    from rich.text import Text

    first = [one.first.rate for one in report.cohorts]
    windows = [one.windows.rate for one in report.cohorts]
    top = max([*first, *windows]) or 1.0
    chart = Text(no_wrap=True, overflow="crop")
    for label, rates, style in (
        (("first come,", "first served"), first, "red"),
        (("with windows",), windows, "green"),
    ):
        lines = chart_lines(rates, top, blocks)
        for number, line in enumerate(lines):
            told = number - (len(lines) - len(label))
            name = label[told] if told >= 0 else ""
            chart.append(" " * (LABEL - 2 - len(name))).append(name, style="bold").append("  ")
            # Spaces are pieces of their own: not every viewer of SVG keeps those before a word.
            for piece in re.split("( +)", line.rstrip()):
                chart.append(piece, style="" if piece.isspace() else style)
            chart.append("\n")
        chart.append("\n")
    lags = "".join(f"{f'{one.lag_s:g} s':^{WIDTH}}{'':{GAP}}" for one in report.cohorts)
    chart.append(f"{'median lag':>{LABEL - 2}}  ")
    for piece in re.split("(  +)", lags.rstrip()):
        chart.append(piece, style="" if piece.isspace() else "bold")
    return chart


def chart_lines(rates: list[float], top: float, blocks: str) -> list[str]:
    """Bars side by side, each with its rate right above it; `top` is the height of all rows."""
    columns = []
    for rate in rates:
        drawn = [line * WIDTH for line in bars([rate], top, ROWS, blocks)]
        drawn = [line for line in drawn if line.strip()]
        above = [f"{rate:^{WIDTH}.1%}", *drawn]
        columns.append([" " * WIDTH] * (ROWS + 1 - len(above)) + above)
    height = max(sum(bool(line.strip()) for line in column) for column in columns)
    rows = list(zip(*columns, strict=True))[-height:]
    return [(" " * GAP).join(row) for row in rows]


def _cohorts(report: RoomReport) -> Table:
    table = new_table(
        "Median lag",
        "viewers",
        "taps",
        "entered",
        "won: first come",
        "rate",
        "won: windows",
        "rate",
    )
    for one in report.cohorts:
        table.add_row(
            f"{one.lag_s:g} s",
            f"{one.share:.0%}",
            f"{one.taps:,}",
            f"{one.entrants:,}",
            f"{one.first.wins:,}",
            f"{one.first.rate:.2%}",
            f"{one.windows.wins:,}",
            f"{one.windows.rate:.2%}",
        )
    return table


def _verdict(report: RoomReport, plus_minus: str) -> Any:
    from rich.text import Text

    first = _ratio(report.parity_first)
    text = Text.assemble(
        "Parity (slowest cohort over fastest, pooled): ",
        (
            f"{_ratio(report.parity)} {plus_minus} {report.parity_error:.2f} with windows",
            "bold green" if report.parity_ok else "bold red",
        ),
        f";\n{first} first come, first served. "
        f"{plus_minus}: standard error of fair draws; a run fails beyond {ERRORS_MAX:g} of them.\n",
    )
    conserved = "holds" if report.conservation_ok else "is BROKEN"
    audited = "ok" if report.audit_ok else "FAILED"
    text.append(
        f"verified: {report.verified} of {report.cues} records, by flashsale.verify. "
        f"Audit {audited}: {report.oversold:,} units oversold,\n{report.lost:,} lost, conservation "
        f"{conserved}; all {report.checked:,} acknowledged holds compared with the server.",
        style="bold red" if report.exit_code == 1 else "green",
    )
    for problem in report.problems:
        text.append(f"\n  {problem}", style="red")
    if report.problem_count > len(report.problems):
        text.append(f"\n  and {report.problem_count - len(report.problems):,} more", style="red")
    for reason in report.void:
        text.append(f"\nVoid: {reason}", style="yellow")
    for note in report.notes:
        text.append(f"\nNote: {note}")
    text.append(
        f"\n{report.completed:,} calls answered, schedule lag p99 "
        f"{report.schedule_lag_ms.p99:.1f} ms, generator CPU {report.generator_cpu:.0%}. "
        f"Took {report.total_s:.1f} s in all."
    )
    return text


def _ratio(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"
