"""The commands that change nothing: watch, snapshot, find, audit."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import msgspec
import typer

from flashsale.cli import tables
from flashsale.cli.options import Debug, Json, SaleId, Url
from flashsale.cli.reporting import REFUSED, operating
from flashsale.cli.watching import still, watch_sale
from flashsale.connecting import now_ms
from flashsale.models import Hold
from flashsale.refs import parse_ref
from flashsale.sync import SaleHandle


def watch(
    sale: SaleId,
    interval: Annotated[
        float, typer.Option("--interval", min=0.1, max=3_600, help="Seconds between frames.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Show one frame and end.")] = False,
    url: Url = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a frame, each on a line.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Watch a sale live: stock, rates, deadlines, and its waiting room. Ctrl-C ends it.

    A frame costs the server two reads. If it stops answering, the watch goes on and says so.
    If the screen is too small for all skus, those with the least left are shown.
    """
    with suppress(KeyboardInterrupt), operating(url, json=json, debug=debug) as (report, shop):
        watch_sale(report, shop, sale, interval_s=interval, once=once)


def snapshot(sale: SaleId, url: Url = None, json: Json = False, debug: Debug = False) -> None:
    """Show a sale at one moment; --json has its definition too."""
    with operating(url, json=json, debug=debug) as (report, shop):
        now = shop.sale(sale).snapshot()
        report.give(now, still(now))


def audit(sale: SaleId, url: Url = None, json: Json = False, debug: Debug = False) -> None:
    """Check the books: replay the ledger against the state.

    It may run while the sale does. Exit code 0 if the books are right, 1 if anything
    disagrees, 2 if it could not be checked.
    """
    with operating(url, json=json, debug=debug) as (report, shop):
        with report.err.status(f"auditing {sale}"):
            audited = shop.sale(sale).audit()
        value = {"sale": audited.sale, "ok": audited.ok, **msgspec.structs.asdict(audited)}
        report.give(value, tables.audit_view(audited))
        if not audited.ok:
            raise typer.Exit(REFUSED)


def find(
    sale: Annotated[
        str, typer.Argument(metavar="SALE|REF", help="The sale's id, or a hold's ref alone.")
    ],
    buyer: Annotated[str | None, typer.Argument(show_default=False)] = None,
    hold_id: Annotated[
        str | None, typer.Argument(help="One hold; without it all of the buyer's.")
    ] = None,
    url: Url = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Find one hold, or every hold of a buyer.

    Name it by sale, buyer and hold id, or by its ref (what the payment provider has). Exit
    code 1 if there is none.
    """
    with operating(url, json=json, debug=debug) as (report, shop):
        if buyer is None:
            sale, buyer, hold_id = parse_ref(sale)
        holds = _found(shop.sale(sale), buyer, hold_id)
        shown = [{**msgspec.to_builtins(hold), "ref": hold.ref} for hold in holds]
        view = tables.holds_view(holds, now_ms(), in_full=hold_id is not None)
        report.give({"sale": sale, "buyer": buyer, "holds": shown}, view)
        if not holds:
            what = f"hold {hold_id!r}" if hold_id else "holds"
            report.note(f"buyer {buyer!r} has no {what} in sale {sale!r}")
            raise typer.Exit(REFUSED)


def _found(sale: SaleHandle, buyer: str, hold_id: str | None) -> list[Hold]:
    if hold_id is None:
        return sale.holds_of(buyer)
    hold = sale.find(buyer, hold_id)
    return [] if hold is None else [hold]
