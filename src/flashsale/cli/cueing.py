"""The commands about fairness windows: cues, record, cue freeze, cue void, cue give-back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import RenderableType
from rich.table import Table

from flashsale.cli.options import Debug, Json, SaleId, Url, Yes
from flashsale.cli.reporting import done, make_sure, operating, print_line
from flashsale.cli.words import clock
from flashsale.cues import CueView
from flashsale.errors import Rejected
from flashsale.models import Outcome

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


def freeze(
    sale: SaleId, cue: CueId, url: Url = None, json: Json = False, debug: Debug = False
) -> None:
    """Freeze a closed cue's entries, and print the digest that fixes them.

    Publish it before anybody can know the result. A public draw is frozen by its service, which
    has the source.
    """
    with operating(url, json=json, debug=debug) as (report, shop):
        told = shop.sale(sale).cue_handle(cue).freeze(wait=False)
        if told.outcome not in (Outcome.FROZEN, Outcome.SETTLED):
            raise Rejected(told.outcome, f"cue {cue!r} of sale {sale!r}")
        report.give(msgspec.to_builtins(told), f"{told.digest}  {told.entrants:,} entrants")


def void(
    sale: SaleId,
    cue: CueId,
    reason: Annotated[
        str, typer.Argument(metavar="REASON", help="What people are told.", show_default=False)
    ],
    yes: Yes = False,
    url: Url = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Say that a cue does not count, for ever. Asks first.

    Its stock stays set aside: give it back to open sale, or open another cue with it.
    """
    with operating(url, json=json, debug=debug) as (report, shop):
        handle = shop.sale(sale).cue_handle(cue)
        make_sure(lambda: f"{_standing(handle.view())}.\nVoid it for ever?", yes=yes)
        done(report, handle.void(reason), Outcome.VOID, cue, cue=cue)


def give_back(
    sale: SaleId, cue: CueId, url: Url = None, json: Json = False, debug: Debug = False
) -> None:
    """Put what a void cue still sets aside on open sale.

    Once the cue's time has come not before its result was to be told.
    """
    with operating(url, json=json, debug=debug) as (report, shop):
        answer = shop.sale(sale).cue_handle(cue).give_back()
        done(report, answer, Outcome.GIVEN_BACK, cue, cue=cue)


def _standing(view: CueView) -> str:
    aside = sum(view.set_aside.values())
    told = f"{view.entries:,} entries, {aside:,} units set aside"
    return f"Cue {view.cue.id!r} is {view.state.value}: {told}"


def _told(view: CueView) -> dict[str, object]:
    """A view, which has no nonce: with that, somebody could enter without having watched."""
    cue = {**msgspec.to_builtins(view.cue), "freeze_by_ms": view.cue.freeze_by_ms}
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
