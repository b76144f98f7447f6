"""A waiting room's rehearsal on one screen: three panels over time, figures, the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flashsale.rehearsal.queue.forecasts import BEFORE_MS
from flashsale.rehearsal.queue.picture import panels_of, time_axis
from flashsale.rehearsal.queue.report import QueueReport
from flashsale.rehearsal.render import new_table, require_rich

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table


def render_queue(
    report: QueueReport, *, ascii_only: bool = False, title: str = "Rehearsal"
) -> Group:
    """The report as something that a rich console prints, 92 columns wide and more."""
    require_rich()
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    panels: list[Any] = []
    for panel in panels_of(report.picture, report.units):
        panels += [panel, Text("")]
    axis = Text(time_axis(report.picture, report.opens_s), no_wrap=True, overflow="crop")
    side_by_side = Table.grid(padding=(0, 1))
    side_by_side.add_row(_turns(report), _forecasts(report), _load(report))
    return Group(
        _headline(report, title),
        Text(_setup(report)),
        Text(""),
        *panels[:-1],
        axis,
        Text(""),
        side_by_side,
        Text(""),
        _latency(report),
        Text(""),
        _verdict(report),
    )


def _headline(report: QueueReport, title: str) -> Any:
    from rich.text import Text

    verdicts = {0: ("passed", "bold green"), 1: ("FAILED", "bold red")}
    word, style = verdicts.get(report.exit_code, ("VOID: this run does not count", "bold yellow"))
    return Text.assemble(f"{title} of ", (report.scenario, "bold"), ": ", (word, style))


def _setup(report: QueueReport) -> str:
    where = "embedded" if report.embedded else "given"
    return (
        f"{report.about}\n"
        f"{report.scale}, time x1: {report.people:,} people ({report.bots:,} of them bots) for "
        f"{report.units:,} units; turns of {report.turn_s:g} s\n"
        f"{report.server} ({where}, {report.address}), durability {report.durability}, "
        f"{report.cores} cores, seed {report.seed}"
    )


def _turns(report: QueueReport) -> Table:
    table = new_table("Turns", "")
    units = report.conversion
    rows = [
        ("people", f"{report.people:,}"),
        ("places given", f"{report.places:,}"),
        ("called", f"{report.called:,}"),
        ("passed over", f"{report.vacated:,}"),
        ("heard of it", f"{report.heard:,}"),
        ("admitted", f"{report.admitted:,}"),
        ("no-shows", f"{report.no_shows:,}"),
        ("in vain", f"{report.in_vain:,} ({report.in_vain_share:.1%})"),
        ("conversion, assumed", f"{units.assumed:.2f}"),
        ("  measured", f"{units.measured:.2f}"),
        ("  the crowd's own", _number(units.crowd)),
    ]
    for row in rows:
        table.add_row(*row)
    return table


def _forecasts(report: QueueReport) -> Table:
    table = new_table(f"Told {BEFORE_MS / 1000:g} s before", "people", "found")
    for word, told in report.calibration.items():
        found = "-" if told.share is None else f"{told.share:.1%}"
        table.add_row(word, f"{told.told:,}", found)
    eta = report.eta
    inside = "-" if eta.inside is None else f"{eta.inside:.0%}"
    table.add_section()
    table.add_row("times told", f"{eta.told:,}", "")
    table.add_row("  error, median", "", f"{_number(eta.median_s, ' s')}")
    table.add_row("  within range", f"{eta.told - eta.unbounded:,}", inside)
    table.add_section()
    table.add_row("none left: said", "", _after(report.said_after_ms))
    table.add_row("  the last heard", "", _after(report.told_after_ms))
    return table


def _load(report: QueueReport) -> Table:
    table = new_table("Load", "")
    memory = report.memory_bytes_per_person
    rows = [
        ("polls", f"{report.polls:,}"),
        ("  a second", f"{report.polls_per_s:,.0f}"),
        ("  a person", f"{report.polls_per_person:.1f}"),
        ("generator CPU", f"{report.generator_cpu:.0%}"),
        ("schedule lag p99", f"{report.schedule_lag_ms.p99:.1f} ms"),
        ("dropped", f"{report.dropped:,}"),
    ]
    if report.server_cpu is not None:
        rows.append(("server CPU", f"{report.server_cpu:.1%}"))
    if memory is not None:
        rows.append(("memory a person", f"{memory:.0f} B"))
    for row in rows:
        table.add_row(*row)
    return table


def _latency(report: QueueReport) -> Table:
    table = new_table("From the intended time, ms", "p50", "p90", "p99", "p99.9", "p99.99", "max")
    for verb, told in report.latency_ms.items():
        figures = (told.p50, told.p90, told.p99, told.p99_9, told.p99_99, told.max)
        table.add_row(verb, *(f"{figure:.1f}" for figure in figures))
    return table


def _verdict(report: QueueReport) -> Any:
    from rich.text import Text

    conserved = "holds" if report.conservation_ok else "is BROKEN"
    audited = "ok" if report.audit_ok else "FAILED"
    text = Text(
        f"Audit {audited}: {report.oversold:,} units oversold, {report.lost:,} acknowledged orders "
        f"lost, conservation {conserved}; all {report.checked:,} acknowledged holds compared.\n"
        f"Turns, places, bounds and what was told: {report.problem_count:,} faults.",
        style="bold red" if report.exit_code == 1 else "green",
    )
    for problem in report.problems:
        text.append(f"\n  {problem}", style="red")
    if report.problem_count > len(report.problems):
        text.append(f"\n  and {report.problem_count - len(report.problems):,} more", style="red")
    for reason in report.void:
        text.append(f"\nVoid: {reason}", style="yellow")
    for note in report.notes:
        text.append(f"\nNote: {note}", style="default")
    ends = ", ".join(f"{count:,} {end}" for end, count in report.ends.items())
    text.append(f"\nHow it ended: {ends}.", style="default")
    text.append(f"\nGenerator: {report.how}. Took {report.total_s:.1f} s in all.", style="default")
    return text


def _number(value: float | None, unit: str = "") -> str:
    return "-" if value is None else f"{value:.2f}{unit}"


def _after(milliseconds: int | None) -> str:
    return "-" if milliseconds is None else f"{milliseconds / 1000:.1f} s"
