"""A small sale, every state a hold of it can be in, and every verb that may come then."""

from __future__ import annotations

from flashsale import Answer, Event, Line, Sale, Sku
from flashsale.testing import OracleSale

T0 = 1_763_900_000_000
TTL = 1_000
EXTEND_MAX = 5_000
BASKET = {"red": 3, "blue": 1}
SALE = Sale(
    "1111",
    skus=[Sku("red", 10, limit=8), Sku("blue", 10)],
    hold_ttl_ms=TTL,
    holds_max=4,
    extend_max_ms=EXTEND_MAX,
)


def opened(sale: Sale = SALE) -> OracleSale:
    return OracleSale(sale, now_ms=T0 - 10 * TTL)


def events_of(oracle: OracleSale) -> list[Event]:
    return [event for entry in oracle.entries for event in entry.events]


def red(oracle: OracleSale) -> tuple[int, int, int]:
    view = oracle.snapshot(now_ms=0).skus["red"]
    return (view.available, view.held, view.sold)


# Each state of a hold, and how a hold gets there. `NOW` is when the verb of the table comes.

NOW = T0 + 100


def unknown(oracle: OracleSale) -> None:
    oracle.hold("someone", {"blue": 1}, hold_id="h", now_ms=T0)


def held(oracle: OracleSale) -> None:
    oracle.hold("ann", BASKET, hold_id="h", now_ms=T0)


def confirmed(oracle: OracleSale) -> None:
    held(oracle)
    oracle.confirm("ann", "h", now_ms=T0)


def part_confirmed(oracle: OracleSale) -> None:
    held(oracle)
    oracle.confirm("ann", "h", lines={"red": 2}, now_ms=T0)


def part_refunded(oracle: OracleSale) -> None:
    confirmed(oracle)
    oracle.refund("ann", "h", lines={"red": 1}, op_id="first", now_ms=T0)


def refunded(oracle: OracleSale) -> None:
    part_refunded(oracle)
    oracle.refund("ann", "h", lines={"red": 2, "blue": 1}, op_id="rest", now_ms=T0)


def released(oracle: OracleSale) -> None:
    held(oracle)
    oracle.release("ann", "h", now_ms=T0)


def tombstone(oracle: OracleSale) -> None:
    oracle.release("ann", "h", now_ms=T0)


def expired(oracle: OracleSale) -> None:
    oracle.hold("ann", BASKET, hold_id="h", now_ms=NOW - TTL)
    oracle.expire(now_ms=NOW)


def due(oracle: OracleSale) -> None:
    oracle.hold("ann", BASKET, hold_id="h", now_ms=NOW - TTL)


# The verbs of the table's rows.


def hold_same(oracle: OracleSale) -> Answer:
    return oracle.hold("ann", [Line("blue", 1), Line("red", 3)], hold_id="h", now_ms=NOW)


def hold_other(oracle: OracleSale) -> Answer:
    return oracle.hold("ann", {"red": 3}, hold_id="h", now_ms=NOW)


def confirm(oracle: OracleSale) -> Answer:
    return oracle.confirm("ann", "h", now_ms=NOW)


def confirm_all_lines(oracle: OracleSale) -> Answer:
    return oracle.confirm("ann", "h", lines=BASKET, now_ms=NOW)


def confirm_part(oracle: OracleSale) -> Answer:
    return oracle.confirm("ann", "h", lines={"red": 2}, now_ms=NOW)


def confirm_too_much(oracle: OracleSale) -> Answer:
    return oracle.confirm("ann", "h", lines={"red": 4}, now_ms=NOW)


def retake(oracle: OracleSale) -> Answer:
    return oracle.confirm("ann", "h", late="retake", now_ms=NOW)


def retake_part(oracle: OracleSale) -> Answer:
    return oracle.confirm("ann", "h", lines={"red": 2}, late="retake", now_ms=NOW)


def retake_too_much(oracle: OracleSale) -> Answer:
    return oracle.confirm("ann", "h", lines={"red": 4}, late="retake", now_ms=NOW)


def release(oracle: OracleSale) -> Answer:
    return oracle.release("ann", "h", now_ms=NOW)


def extend(oracle: OracleSale) -> Answer:
    return oracle.extend("ann", "h", deadline_ms=T0 + TTL + EXTEND_MAX, now_ms=NOW)


def extend_too_far(oracle: OracleSale) -> Answer:
    return oracle.extend("ann", "h", deadline_ms=T0 + TTL + EXTEND_MAX + 1, now_ms=NOW)


def extend_not_later(oracle: OracleSale) -> Answer:
    return oracle.extend("ann", "h", deadline_ms=T0 + TTL, now_ms=NOW)


def refund(oracle: OracleSale) -> Answer:
    return oracle.refund("ann", "h", lines={"red": 1}, op_id="new", now_ms=NOW)


def refund_too_much(oracle: OracleSale) -> Answer:
    return oracle.refund("ann", "h", lines={"red": 4}, op_id="new", now_ms=NOW)


def refund_seen(oracle: OracleSale) -> Answer:
    return oracle.refund("ann", "h", lines={"red": 1}, op_id="first", now_ms=NOW)


def refund_seen_other(oracle: OracleSale) -> Answer:
    return oracle.refund("ann", "h", lines={"red": 2}, op_id="first", now_ms=NOW)
