"""The commands that change a sale: open, pause, resume, restock, end, purge."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from flashsale import inventory
from flashsale.cli import tables
from flashsale.cli.options import Debug, Json, SaleId, Url, Yes
from flashsale.cli.rates import total_of
from flashsale.cli.reporting import REFUSED, done, make_sure, operating
from flashsale.errors import InvalidRequest
from flashsale.models import Outcome
from flashsale.sync import SaleHandle

_CHANGE = re.compile(r"(?P<sku>.*)=(?P<change>[+-][0-9](_?[0-9]){0,14})", re.DOTALL)


def open_sale(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.toml", help="The sale.", show_default=False)
    ],
    url: Url = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Open a sale from a file.

    The file has the fields of `Sale` and a table [[skus]] with those of `Sku`. The same
    definition again changes nothing; another one under the same id is refused.
    """
    from flashsale.rehearsal.files import read_sale

    with operating(url, json=json, debug=debug) as (report, shop):
        sale = read_sale(file)
        answer = shop.perform(inventory.open_sale(sale))
        units = sum(sku.stock for sku in sale.skus)
        done(report, answer, Outcome.OPENED, f"{units:,} units of {len(sale.skus):,} skus")


def pause(sale: SaleId, url: Url = None, json: Json = False, debug: Debug = False) -> None:
    """Refuse new holds until resumed.

    What is held can still be paid, extended and given up.
    """
    with operating(url, json=json, debug=debug) as (report, shop):
        done(report, shop.sale(sale).pause(), Outcome.PAUSED)


def resume(sale: SaleId, url: Url = None, json: Json = False, debug: Debug = False) -> None:
    """Take holds again after a pause."""
    with operating(url, json=json, debug=debug) as (report, shop):
        done(report, shop.sale(sale).resume(), Outcome.RESUMED)


def restock(
    sale: SaleId,
    changes: Annotated[
        list[str], typer.Argument(metavar="SKU=+N...", help="Units more (+) or fewer (-).")
    ],
    op_id: Annotated[
        str, typer.Option("--op-id", metavar="ID", help="Names this change: it happens once.")
    ],
    url: Url = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Add units to skus, or take available ones away.

    All changes are made or none. With the same --op-id it happens once, however often it is
    repeated.
    """
    with operating(url, json=json, debug=debug) as (report, shop):
        wanted = parse_changes(changes)
        answer = shop.sale(sale).restock(wanted, op_id=op_id)
        told = ", ".join(f"{sku} {change:+,}" for sku, change in wanted.items())
        done(report, answer, Outcome.RESTOCKED, told, changes=wanted, op_id=op_id)


def end(
    sale: SaleId, yes: Yes = False, url: Url = None, json: Json = False, debug: Debug = False
) -> None:
    """Refuse new holds for ever. Asks first.

    What is held can still be paid, extended and given up.
    """
    with operating(url, json=json, debug=debug) as (report, shop):
        handle = shop.sale(sale)
        make_sure(lambda: f"{_standing(handle)}.\nEnd it for ever?", yes=yes)
        done(report, handle.end(), Outcome.ENDED)


def purge(
    sale: SaleId, yes: Yes = False, url: Url = None, json: Json = False, debug: Debug = False
) -> None:
    """Delete an ended sale's data for ever. Asks first.

    Stock, holds and ledger go; the id stays used. Refused while anything is held or a
    registered reader has not read the whole ledger.
    """
    with operating(url, json=json, debug=debug) as (report, shop):
        handle = shop.sale(sale)
        make_sure(lambda: f"{_standing(handle)}.\nDelete all of it for ever?", yes=yes)
        done(report, handle.purge(), Outcome.PURGED)


def repair(sale: SaleId, url: Url = None, json: Json = False, debug: Debug = False) -> None:
    """Apply the ledger's torn entry, which `audit` names, to records and counters.

    It only goes forward and may be repeated. Exit code 1 if it cannot be told what of the entry
    was applied: then nothing was changed, and each thing is named.
    """
    with operating(url, json=json, debug=debug) as (report, shop):
        mended = shop.sale(sale).repair()
        value = {"sale": sale, "ok": mended.ok, **msgspec.structs.asdict(mended)}
        report.give(value, tables.repair_view(mended))
        if not mended.ok:
            raise typer.Exit(REFUSED)


def parse_changes(texts: Sequence[str]) -> dict[str, int]:
    """Read ``lipstick=+500 mug=-20``; the sign is required, so that a total is not meant."""
    changes: dict[str, int] = {}
    for text in texts:
        found = _CHANGE.fullmatch(text)
        if found is None:
            raise InvalidRequest(f"change {text!a}", "must be SKU=+N or SKU=-N, such as mug=+500")
        if found["sku"] in changes:
            raise InvalidRequest(f"change {text!a}", f"{found['sku']!r} is named twice")
        changes[found["sku"]] = int(found["change"])
    return changes


def _standing(sale: SaleHandle) -> str:
    """What is at stake, in one sentence."""
    now = sale.snapshot()
    total = total_of(now.skus.values())
    units = f"{total.available:,} units available, {total.held:,} held, {total.sold:,} sold"
    return f"Sale {sale.id!r} is {now.state.value}: {units}"
