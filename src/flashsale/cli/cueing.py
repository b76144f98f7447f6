"""The commands about fairness windows: cues, record."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import RenderableType
from rich.table import Table

from flashsale.cli.options import Debug, Json, SaleId, Url
from flashsale.cli.reporting import operating, print_line
from flashsale.cli.words import clock
from flashsale.cues import CueState, CueView

CueId = Annotated[str, typer.Argument(metavar="CUE", help="The cue's id.", show_default=False)]


def cues(sale: SaleId, url: Url = None, json: Json = False, debug: Debug = False) -> None:
    """List a sale's cues: state, times, entries, and what each still sets aside."""
    with operating(url, json=json, debug=debug) as (report, shop):
        handle = shop.sale(sale)
        handle.snapshot()  # a sale that is not there is an error, not an empty list
        views = [handle.cue_handle(cue).view() for cue in handle.cues()]
        told = [{"id": view.cue.id, **_told(view)} for view in views]
        report.give({"sale": sale, "cues": told}, _table(views))


def record(
    sale: SaleId,
    cue: CueId,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write it there.")
    ] = None,
    url: Url = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Print the public record of a draw, for `flashsale verify` and for everybody.

    It names no buyer: entrants are hashes under a salt that is never told. It is JSON with
    --json and without.
    """
    with operating(url, json=json, debug=debug) as (report, shop):
        told = shop.sale(sale).cue_handle(cue).record()
        text = msgspec.json.encode(told).decode()
        if out is None:
            print_line(text)
        else:
            out.write_text(text, "utf-8")
            report.note(f"{out}: {len(text):,} bytes")


def _told(view: CueView) -> dict[str, object]:
    """Everything but what would let somebody enter without having watched."""
    cue = msgspec.to_builtins(view.cue)
    if view.state is CueState.OPEN:
        del cue["nonce"]
    return {**msgspec.to_builtins(view), "cue": cue}


def _table(views: list[CueView]) -> RenderableType:
    table = Table("Cue", "state", "closes", "entries", "awarded", "set aside", "left")
    for column in table.columns[3:]:
        column.justify = "right"
    for view in views:
        table.add_row(
            view.cue.id,
            f"{view.state.value}: {view.reason}" if view.reason else view.state.value,
            clock(view.cue.closes_at_ms),
            f"{view.entries:,}",
            f"{view.awarded:,}",
            f"{sum(view.cue.stock.values()):,}",
            f"{sum(view.set_aside.values()):,}",
        )
    return table
