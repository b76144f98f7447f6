"""The server after a run: sweeping, reading everything it has to say, clearing away.

Operations without I/O, so that a run of either client ends the same way.
"""

from __future__ import annotations

import time

from flashsale import audit, inventory, views
from flashsale.calls import Operation, Pause
from flashsale.errors import FlashSaleError
from flashsale.models import Hold, Outcome, SaleState, Snapshot
from flashsale.rehearsal.driver import SWEEP_HOLDS
from flashsale.rehearsal.truth import ServerSide

CHECK_TIMEOUT_MS = 120_000
"""How long each of these operations may take."""

_SCAN_PAGE = 1_000
_SWEPT_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.02


def quiet(sale: str, *, wait_s: float) -> Operation[Snapshot]:
    """Sweep until nothing is held, or until the time is up and nothing is due."""
    until = time.perf_counter() + max(0.0, wait_s)
    while True:
        while (yield from inventory.expire(sale, SWEEP_HOLDS)):
            pass
        snapshot = yield from views.snapshot(sale)
        now = time.perf_counter()
        settled = not any(view.held for view in snapshot.skus.values())
        is_due = snapshot.due_at_ms is not None and snapshot.due_at_ms <= snapshot.at_ms
        if settled or (now > until and not is_due) or now > until + _SWEPT_WITHIN_S:
            return snapshot
        if not (yield Pause(_LOOK_EVERY_S)):
            return snapshot


def read_server(sale: str, snapshot: Snapshot) -> Operation[ServerSide]:
    """Everything the server has to say about the sale, after that snapshot."""
    records: dict[str, list[Hold]] = {}
    cursor = ""
    while cursor != "0":
        cursor, _, page = yield from views.scan(sale, cursor or "0", _SCAN_PAGE)
        records |= {buyer: holds for buyer, holds in page.items() if holds is not None}
    after = yield from views.snapshot(sale)
    report = yield from audit.audit(sale)
    return ServerSide(snapshot=snapshot, records=records, read_by_ms=after.at_ms, audit=report)


def clear_away(sale: str, *, keep: bool) -> Operation[str]:
    """End and purge the sale unless it is to be kept; what became of it, for people."""
    if keep:
        return f"sale {sale!r} is left on the server, to be looked at"
    try:
        yield from inventory.set_state(sale, SaleState.ENDED)
        purged = (yield from inventory.purge(sale)).outcome is Outcome.PURGED
    except FlashSaleError:
        purged = False
    if purged:
        return f"sale {sale!r} is purged from the server"
    return f"sale {sale!r} is left on the server: it could not be purged yet"
