"""Snapshots, holds and audits as tables for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from flashsale.cli import words
from flashsale.cli.rates import Rates, total_of
from flashsale.cli.stock_bar import StockBar
from flashsale.models import (
    AuditReport,
    Hold,
    HoldState,
    RepairReport,
    SaleState,
    SkuView,
    Snapshot,
)

_STATE_STYLE = {
    SaleState.RUNNING: "bold green",
    SaleState.PAUSED: "bold yellow",
    SaleState.ENDED: "bold red",
}
_HOLD_STYLE = {HoldState.HELD: "yellow", HoldState.CONFIRMED: "green"}


def plain_table(*columns: str, numbers: Sequence[str] = ()) -> Table:
    """A table that is legible piped and without colour; `numbers` are flushed right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        right = column in numbers
        table.add_column(column, justify="right" if right else "left", no_wrap=right)
    return table


def heading(snapshot: Snapshot) -> Text:
    """One line: the sale, its state, when it opens or closes, and where its ledger is."""
    sale, now = snapshot.sale, snapshot.at_ms
    parts = [Text(snapshot.state.value, _STATE_STYLE[snapshot.state])]
    if sale.opens_at_ms is not None and now < sale.opens_at_ms:
        parts.append(Text(f"opens in {words.duration(sale.opens_at_ms - now)}", "bold"))
    elif sale.closes_at_ms is not None:
        left = sale.closes_at_ms - now
        parts.append(Text(f"closes in {words.duration(left)}" if left > 0 else "closed", "bold"))
    parts.append(Text(f"{snapshot.buyers:,} buyers"))
    parts.append(Text(f"ledger {snapshot.epoch}-{snapshot.sequence}"))
    parts.append(Text(words.clock(now)))
    return Text("  ").join([Text(sale.id, "bold"), *parts])


def any_set_aside(snapshot: Snapshot) -> bool:
    """Whether the sale has units set aside: most have not, and then nobody need read of it."""
    return any(sku.set_aside for sku in snapshot.skus.values())


def stock_table(
    snapshot: Snapshot, rows: int | None = None, taken: Mapping[str, float] | None = None
) -> Table:
    """Every sku's units. If `rows` are too few for all, those with the least left are shown.

    taken: units taken a second by sku, a column of its own unless it is None.
    """
    skus = list(snapshot.skus.values())
    columns = _columns(set_aside=any_set_aside(snapshot))
    numbers = [*columns, *(("taken/s",) if taken is not None else ())]
    table = plain_table("sku", "", *numbers, numbers=numbers)
    table.columns[0].overflow = "fold"
    table.columns[0].min_width = min(max(len(sku.sku) for sku in skus), 16)

    def add(name: str, views: Sequence[SkuView], style: str | None = None) -> None:
        units = total_of(views)
        cells = [cell(units) for cell in columns.values()]
        if taken is not None:
            rates = [taken[view.sku] for view in views if view.sku in taken]
            cells.append(f"{sum(rates):+,.0f}" if rates else "")
        bar = StockBar(units.sold, units.held, units.set_aside, units.available)
        table.add_row(name, bar, *cells, style=style)

    shown, rest = skus, []
    if rows is not None and len(skus) > max(rows, 1):
        skus.sort(key=lambda sku: sku.available / sku.allotment if sku.allotment else 0)
        shown, rest = skus[: max(rows - 1, 1)], skus[max(rows - 1, 1) :]
    for sku in shown:
        add(sku.sku, [sku])
    if rest:
        add(f"{len(rest):,} more", rest, "dim")
    if len(skus) > 1:
        table.add_section()
        add("total", skus, "bold")
    return table


def _columns(*, set_aside: bool) -> dict[str, Callable[[SkuView], str]]:
    columns: dict[str, Callable[[SkuView], str]] = {
        "available": lambda units: f"{units.available:,}",
        "left": lambda units: words.share(units.available, units.allotment),
        "held": lambda units: f"{units.held:,}",
        "sold": lambda units: f"{units.sold:,}",
    }
    if set_aside:
        columns["set aside"] = lambda units: f"{units.set_aside:,}"
    columns["allotment"] = lambda units: f"{units.allotment:,}"
    return columns


def due_line(snapshot: Snapshot) -> Text:
    """How many units are held, and when the first of them may fall due."""
    held = total_of(snapshot.skus.values()).held
    text = Text(f"{held:,} units held")
    if not held or snapshot.due_at_ms is None:
        return text
    left = snapshot.due_at_ms - snapshot.at_ms
    if left <= 0:
        return text.append("; some may be due, the next call sweeps them", "yellow")
    when = f"; the first deadline is in {words.duration(left)} or later"
    return text.append(f"{when} ({words.clock(snapshot.due_at_ms)})")


def rates_line(rates: Rates | None) -> Text:
    """What changed a second."""
    if rates is None:
        return Text("the rates come with the next frame", "dim")
    taken, sold = f"{rates.taken_per_s:+,.1f} units taken (net)", f"{rates.sold_per_s:+,.1f} sold"
    return Text(f"a second: {taken}, {sold}, {rates.entries_per_s:,.1f} ledger entries")


def holds_view(holds: Sequence[Hold], now_ms: int, *, in_full: bool) -> RenderableType:
    """A buyer's holds, one a row, or each in full."""
    if in_full:
        return Group(*(_one_hold(hold, now_ms) for hold in holds))
    if not holds:
        return Group()
    table = plain_table("hold id", "state", "held at first", "sold", "deadline")
    for hold in holds:
        held, sold = words.lines(hold.lines), words.lines(hold.sold)
        table.add_row(hold.hold_id, _state(hold), held, sold, _deadline(hold, now_ms))
    return table


def _one_hold(hold: Hold, now_ms: int) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("sale", hold.sale)
    table.add_row("buyer", hold.buyer)
    table.add_row("hold id", hold.hold_id)
    table.add_row("state", _state(hold))
    table.add_row("held at first", words.lines(hold.lines))
    table.add_row("sold", words.lines(hold.sold))
    table.add_row("deadline", _deadline(hold, now_ms))
    if hold.original_deadline_ms != hold.deadline_ms:
        table.add_row("originally", words.moment(hold.original_deadline_ms))
    for op_id, lines in hold.refunds.items():
        table.add_row("refunded", f"{words.lines(lines)} (op id {op_id})")
    table.add_row("ref", hold.ref)
    return table


def _state(hold: Hold) -> Text:
    if hold.state is HoldState.RELEASED and not hold.lines:
        return Text("released before it arrived")
    return Text(hold.state.value, _HOLD_STYLE.get(hold.state, ""))


def _deadline(hold: Hold, now_ms: int) -> str:
    text = words.moment(hold.deadline_ms)
    if hold.state is HoldState.HELD and hold.deadline_ms is not None:
        text += f" (in {words.duration(max(0, hold.deadline_ms - now_ms))})"
    return text


def repair_view(report: RepairReport) -> RenderableType:
    """What became of the torn entry."""
    verdict = f"ledger entry {report.entry} is applied" if report.entry else "nothing is torn"
    if not report.ok:
        verdict = f"ledger entry {report.entry} is torn still: nothing was changed"
    style = "bold green" if report.ok else "bold red"
    lines = [Text.assemble((report.sale, "bold"), "  ", (verdict, style))]
    lines += [Text(f"- {problem}") for problem in report.problems]
    lines += [
        Text(f"- cue {cue!r} was never opened: its units are where they were")
        for cue in report.given_back
    ]
    return Group(*lines)


def audit_view(report: AuditReport) -> RenderableType:
    """The verdict, what it stands on, and every problem."""
    verdict = Text("the books are right", "bold green")
    if not report.ok:
        count = f"{len(report.problems)}{' or more' if report.truncated else ''}"
        verdict = Text(f"{count} problems", "bold red")
    read = f"{report.entries:,} entries with {report.events:,} events up to ledger "
    read += f"{report.epoch}-{report.sequence}"
    if report.checkpoint:
        read += f", from the checkpoint at {report.checkpoint}"
    held = f"{report.holds:,} holds of {report.buyers:,} buyers"
    lines = [Text.assemble((report.sale, "bold"), "  ", verdict), Text(f"{read}; {held}")]
    lines += [Text(f"- {problem}") for problem in report.problems]
    return Group(*lines)
