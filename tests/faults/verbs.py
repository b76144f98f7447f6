"""Every verb that writes, with what must have happened before and what must happen once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from flashsale import EventKind, HoldRequest, Sale, Sku

TTL_MS = 600_000
SOON_MS = 25


class Verb(Struct, frozen=True):
    """`call` is made on a sale after `prepare`, and does `once` exactly once."""

    name: str
    call: Callable[[Any], Any]
    once: EventKind
    prepare: Callable[[Any], None] = lambda sale: None
    ttl_ms: int = TTL_MS

    def sale(self, sale_id: str) -> Sale:
        skus = [Sku("red", stock=20, limit=5), Sku("blue", stock=20)]
        return Sale(sale_id, skus, hold_ttl_ms=self.ttl_ms)


def _hold(sale: Any) -> Any:
    return sale.hold("ann", {"red": 2, "blue": 1}, hold_id="h1", channel="app", note="19.90")


def _sold(sale: Any) -> None:
    _hold(sale)
    sale.confirm("ann", "h1")


def _overdue(sale: Any) -> None:
    _hold(sale)
    time.sleep(2 * SOON_MS / 1000)


def _hold_many(sale: Any) -> Any:
    return sale.hold_many([HoldRequest(buyer, {"red": 1}, "h1") for buyer in ("bob", "cyd")])


def _bobs(sale: Any) -> list[str]:
    return [hold.ref for hold in sale.holds_of("bob")]


def _bob_holds(sale: Any) -> None:
    sale.hold("bob", {"red": 1}, hold_id="h1")


VERBS = [
    Verb("hold", _hold, EventKind.HELD),
    Verb("hold_one", lambda s: s.hold("ann", {"red": 1}, hold_id="h1"), EventKind.HELD),
    Verb("hold_many", _hold_many, EventKind.HELD),
    Verb("confirm", lambda s: s.confirm("ann", "h1"), EventKind.CONFIRMED, _hold),
    Verb("confirm_one", lambda s: s.confirm("bob", "h1"), EventKind.CONFIRMED, _bob_holds),
    Verb(
        "confirm_part",
        lambda s: s.confirm("ann", "h1", lines={"red": 1}),
        EventKind.DROPPED,
        _hold,
    ),
    Verb(
        "confirm_late",
        lambda s: s.confirm("ann", "h1", late="retake"),
        EventKind.RETAKEN,
        _overdue,
        SOON_MS,
    ),
    Verb("confirm_many", lambda s: s.confirm_many(_bobs(s)), EventKind.CONFIRMED, _bob_holds),
    Verb("release", lambda s: s.release("ann", "h1"), EventKind.RELEASED, _hold),
    Verb("release_unknown", lambda s: s.release("ann", "h1"), EventKind.TOMBSTONE),
    Verb("release_many", lambda s: s.release_many(_bobs(s)), EventKind.RELEASED, _bob_holds),
    Verb(
        "extend",
        lambda s: s.extend(
            "ann", "h1", deadline_ms=s.find("ann", "h1").original_deadline_ms + 1_000
        ),
        EventKind.EXTENDED,
        _hold,
    ),
    Verb(
        "refund",
        lambda s: s.refund("ann", "h1", lines={"red": 1}, op_id="r1"),
        EventKind.REFUNDED,
        _sold,
    ),
    Verb("restock", lambda s: s.restock({"red": 5, "blue": -2}, op_id="t1"), EventKind.RESTOCKED),
    Verb("pause", lambda s: s.pause(), EventKind.STATE),
    Verb("resume", lambda s: s.resume(), EventKind.STATE, lambda s: s.pause()),
    Verb("end", lambda s: s.end(), EventKind.STATE),
    Verb("expire", lambda s: s.expire(), EventKind.EXPIRED, _overdue, SOON_MS),
]
