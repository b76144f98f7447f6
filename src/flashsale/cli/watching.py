"""Watching a sale: one look a frame, and what changed since the frame before."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from msgspec import Struct
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from flashsale.cli import tables, words
from flashsale.cli.queueing import QueueFrame, queue_line, queue_of
from flashsale.cli.rates import COUNTERS, Rates, rates_between, total_of
from flashsale.cli.reporting import Report, print_json
from flashsale.cli.stock_bar import Legend
from flashsale.errors import StoreError
from flashsale.models import SaleState, SkuView, Snapshot
from flashsale.sync import FlashSale

_OTHER_LINES = 12
"""Lines of a frame that are not rows of skus."""

_ALARMS = 3
"""Skus that a frame for people names at most because they are held and not paid for."""

_QUEUE_LINES = 4
"""And those of a waiting room, if the sale has one."""


class Look(Struct, frozen=True):
    """A sale at one moment, and its waiting room."""

    sale: Snapshot
    queue: QueueFrame | None


def look_at(shop: FlashSale, sale: str) -> Look:
    """Two reads."""
    return Look(shop.sale(sale).snapshot(), queue_of(shop, sale))


class Frame(Struct, frozen=True):
    """What `watch --json` prints. `total` sums the skus, `rates` need a frame before, `queue` is
    None if the sale has no waiting room; `alarms`: skus that are held and not paid for.
    """

    sale: str
    state: SaleState
    at_ms: int
    epoch: int
    sequence: int
    buyers: int
    due_at_ms: int | None
    rates: Rates | None
    total: dict[str, int]
    skus: dict[str, SkuView]
    queue: QueueFrame | None
    alarms: tuple[str, ...]


def frame_of(before: Look | None, look: Look) -> Frame:
    """A look and its rates, for programs."""
    now = look.sale
    total = total_of(now.skus.values())
    return Frame(
        sale=now.sale.id,
        state=now.state,
        at_ms=now.at_ms,
        epoch=now.epoch,
        sequence=now.sequence,
        buyers=now.buyers,
        due_at_ms=now.due_at_ms,
        rates=rates_between(None if before is None else before.sale, now),
        total={name: getattr(total, name) for name in COUNTERS},
        skus=now.skus,
        queue=look.queue,
        alarms=alarms_of(now),
    )


def alarms_of(now: Snapshot) -> tuple[str, ...]:
    """Skus that are held and not paid for, once the first holds of the sale have fallen due."""
    opened = now.sale.opens_at_ms
    fresh = opened is not None and now.at_ms < opened + now.sale.hold_ttl_ms
    return () if fresh else now.held_alarms()


def _alarms(now: Snapshot) -> list[RenderableType]:
    return [Text(alarm, "bold yellow") for alarm in alarms_of(now)[:_ALARMS]]


def still(now: Snapshot) -> RenderableType:
    """One snapshot, for people."""
    legend = Legend(set_aside=tables.any_set_aside(now))
    parts = tables.heading(now), tables.stock_table(now), legend, tables.due_line(now)
    return Group(*parts, *_alarms(now))


def _queue(look: Look) -> list[RenderableType]:
    return [] if look.queue is None else [queue_line(look.queue, look.sale.at_ms)]


def moving(before: Look | None, look: Look, rows: int | None = None) -> RenderableType:
    """One frame of many, for people: a look and what changed."""
    now = look.sale
    rates = rates_between(None if before is None else before.sale, now)
    return Group(
        tables.heading(now),
        tables.stock_table(now, rows, rates.taken_per_s_by_sku if rates else {}),
        Legend(set_aside=tables.any_set_aside(now)),
        tables.due_line(now),
        tables.rates_line(rates),
        *_queue(look),
        *_alarms(now),
    )


def watch_sale(
    report: Report, shop: FlashSale, sale: str, *, interval_s: float, once: bool
) -> None:
    """Show frames until interrupted. A server that stops answering is waited for.

    Raises what the first frame raises, and Rejected whenever the sale is not there.
    """
    now = look_at(shop, sale)
    if once:
        report.give(frame_of(None, now), still(now.sale), *_queue(now))
        return
    before: Look | None = None
    with _screen(report) as show:
        while True:
            show(before, now, "")
            time.sleep(interval_s)
            lost_at = time.monotonic()
            while True:
                try:
                    before, now = now, look_at(shop, sale)
                    break
                except StoreError as error:
                    silent = words.duration(int(1000 * (time.monotonic() - lost_at)))
                    show(before, now, f"no answer for {silent}: {error.__cause__ or error}")
                    time.sleep(interval_s)


Show = Callable[[Look | None, Look, str], None]


@contextmanager
def _screen(report: Report) -> Iterator[Show]:
    """A way to show a frame, or the last one again and why there is no newer one."""
    if not report.json and report.out.is_terminal:
        with Live(console=report.out, auto_refresh=False) as live:
            yield lambda *frame: live.update(_on_screen(report, *frame), refresh=True)
    else:
        yield lambda *frame: _printed(report, *frame)


def _on_screen(report: Report, before: Look | None, now: Look, lost: str) -> RenderableType:
    other = _OTHER_LINES + len(_alarms(now.sale)) + (0 if now.queue is None else _QUEUE_LINES)
    rows = max(1, report.out.height - other)
    warning = Text(lost, "bold red", no_wrap=True, overflow="ellipsis")
    return Group(moving(before, now, rows), warning if lost else Text("Ctrl-C ends", "dim"))


def _printed(report: Report, before: Look | None, now: Look, lost: str) -> None:
    if lost:
        report.note(lost)
    elif report.json:
        print_json(frame_of(before, now))
    else:
        report.out.print(moving(before, now), "")
