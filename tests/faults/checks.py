"""What must hold after every fault, whatever it was."""

from __future__ import annotations

from collections import Counter
from typing import Any

from flashsale import Entry, Event, EventKind, FlashSale, Snapshot
from support.lab import dump_key

SCRIPTS = ("EVAL", "EVALSHA")
"""The commands that do something."""

MARGIN_S = 20
"""What a busy machine may add to a time-out before it counts as a hang: that has no end."""


def entries_of(sale: Any) -> list[Entry]:
    """The whole ledger; its sequence is dense and its time never goes back."""
    entries: list[Entry] = []
    while page := sale.ledger.read(after=len(entries), count=1_000).entries:
        entries += page
    assert [entry.sequence for entry in entries] == list(range(1, len(entries) + 1))
    times = [entry.at_ms for entry in entries]
    assert times == sorted(times)
    return entries


def events_of(sale: Any) -> list[Event]:
    """Everything that happened, in order."""
    return [event for entry in entries_of(sale) for event in entry.events]


def kinds_of(sale: Any) -> Counter[EventKind]:
    """How often each kind of thing happened."""
    return Counter(event.kind for event in events_of(sale))


def books_are_right(sale: Any) -> Snapshot:
    """Units are conserved, none is sold twice, and the ledger tells the same as the state."""
    view: Snapshot = sale.snapshot()
    for units in view.skus.values():
        parts = (units.available, units.set_aside, units.held, units.sold)
        assert min(parts) >= 0, units
        assert sum(parts) == units.allotment, units
    report = sale.audit()
    assert report.ok, report.problems
    return view


def books_of(url: str, sale_id: str) -> Snapshot:
    """As books_are_right, looked at by a client of its own."""
    with FlashSale.from_url(url, timeout_ms=20_000) as shop:
        return books_are_right(shop.sale(sale_id))


def everything(client: Any) -> dict[bytes, Any]:
    """What all keys of a server hold."""
    return {key: dump_key(client, key) for key in client.scan_iter()}
