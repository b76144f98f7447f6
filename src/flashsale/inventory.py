"""The verbs of a sale's stock, as operations without I/O; lua/inventory/ decides them.

Every verb on holds takes a batch; a single one is a batch of one on the same path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from flashsale import limits
from flashsale.baskets import WHOLE, check_basket, encode
from flashsale.batches import (
    Item,
    Target,
    check_all,
    only,
    perform_once,
    reject,
    run_batch,
    shard_call,
)
from flashsale.calls import Call, Operation, expect
from flashsale.errors import FlashSaleError, InvalidRequest, Rejected
from flashsale.keys import ShardKeys
from flashsale.models import Answer, Basket, HoldRequest, Outcome, Sale, SaleState
from flashsale.scripts import load_script


def _hold_item(request: HoldRequest) -> Item:
    if not isinstance(request, HoldRequest):
        raise InvalidRequest("requests", f"must be HoldRequests, not {type(request).__name__}")
    buyer = limits.check_id("buyer", request.buyer)
    hold_id = limits.check_id("hold_id", request.hold_id)
    lines = check_basket("basket", request.basket)
    if request.channel != "":
        limits.check_id("channel", request.channel)
    limits.check_note("note", request.note)
    return Target(buyer, hold_id), (lines, request.channel, request.note)


# --- verbs on holds -----------------------------------------------------------------------


def hold(sale: str, request: HoldRequest) -> Operation[Answer]:
    """Take stock for one buyer until a deadline."""
    return only((yield from run_batch("hold", sale, [_hold_item(request)])))


def hold_many(
    sale: str, requests: Sequence[HoldRequest]
) -> Operation[list[Answer | FlashSaleError]]:
    """Take stock for many buyers, item by item."""
    return (yield from run_batch("hold", sale, check_all(requests, _hold_item)))


def check_late(late: str) -> str:
    """The two ways to treat a payment that comes after the deadline."""
    if late not in ("refuse", "retake"):
        raise InvalidRequest("late", f'must be "refuse" or "retake", not {limits.shown(late)}')
    return late


def confirm(sale: str, target: Target, lines: Basket | None, late: str) -> Operation[Answer]:
    """Sell a hold, whole or some of its lines."""
    wanted = WHOLE if lines is None else check_basket("lines", lines)
    item: Item = (target, (wanted, "", ""))
    return only((yield from run_batch("confirm", sale, [item], check_late(late))))


def confirm_many(
    sale: str, targets: Sequence[Target | InvalidRequest], late: str
) -> Operation[list[Answer | FlashSaleError]]:
    """Sell many holds, each whole."""
    return (yield from run_batch("confirm", sale, _bare(targets), check_late(late)))


def release(sale: str, target: Target) -> Operation[Answer]:
    """Give a hold up."""
    return only((yield from run_batch("release", sale, [(target, (WHOLE, "", ""))])))


def release_many(
    sale: str, targets: Sequence[Target | InvalidRequest]
) -> Operation[list[Answer | FlashSaleError]]:
    """Give many holds up."""
    return (yield from run_batch("release", sale, _bare(targets)))


def _bare(targets: Sequence[Target | InvalidRequest]) -> list[Item | FlashSaleError]:
    return [t if isinstance(t, InvalidRequest) else (t, (WHOLE, "", "")) for t in targets]


def extend(sale: str, target: Target, deadline_ms: int) -> Operation[Answer]:
    """Set a hold's deadline later."""
    limits.check_int("deadline_ms", deadline_ms, 0, limits.TIME_MAX_MS)
    item: Item = (target, (WHOLE, deadline_ms, ""))
    return only((yield from run_batch("extend", sale, [item])))


def refund(sale: str, target: Target, lines: Basket, op_id: str) -> Operation[Answer]:
    """Take paid lines back into stock, once by `op_id`."""
    item: Item = (target, (check_basket("lines", lines), limits.check_id("op_id", op_id), ""))
    return only((yield from run_batch("refund", sale, [item])))


def expire(sale: str, max_holds: int) -> Operation[int]:
    """Sweep up to `max_holds` due holds (rounded up to a whole ledger entry) back to stock."""
    limits.check_int("max_holds", max_holds, 1, limits.SWEEP_MAX)
    expired, more = 0, 1
    while more and expired < max_holds:
        reply = yield shard_call("expire", ShardKeys.of(sale), max_holds - expired)
        _, _, swept, more, code = expect(reply, 5, "expire")
        reject(sale, code)
        expired += swept
    return expired


# --- verbs on the sale --------------------------------------------------------------------


def open_sale(sale: Sale) -> Operation[Answer]:
    """Create a sale; the same definition again is a no-op, another raises Rejected (CONFLICT)."""
    if not isinstance(sale, Sale):
        raise InvalidRequest("sale", f"must be a Sale, not {type(sale).__name__}")
    keys = ShardKeys.of(sale.id)
    rules = (
        sale.hold_ttl_ms,
        False if sale.opens_at_ms is None else sale.opens_at_ms,
        False if sale.closes_at_ms is None else sale.closes_at_ms,
        False if sale.limit is None else sale.limit,
        sale.holds_max,
        sale.extend_max_ms,
        sale.buyers_max,
    )
    skus = [v for s in sale.skus for v in (s.id, s.stock, "" if s.limit is None else s.limit)]
    own = msgspec.structs.astuple(keys)
    args = (msgspec.json.encode(sale), encode(rules), encode(skus))
    call = Call(load_script("inventory/open"), own, args)
    answer = yield from perform_once(sale.id, call, "open")
    if answer.outcome is not Outcome.OPENED:
        raise Rejected(answer.outcome, f"sale {sale.id!r}")
    return answer


def restock(sale: str, changes: Mapping[str, int], op_id: str) -> Operation[Answer]:
    """Change allotments up or down, all or none, once by `op_id`."""
    limits.check_id("op_id", op_id)
    if not isinstance(changes, Mapping):
        raise InvalidRequest("changes", "must be a mapping of sku to change")
    if not 1 <= len(changes) <= limits.SKUS_MAX:
        raise InvalidRequest("changes", f"must name 1 to {limits.SKUS_MAX} skus")
    flat: list[str | int] = []
    for sku, change in changes.items():
        limits.check_id("sku in changes", sku)
        limits.check_int(f"change of {sku!r}", change, -limits.STOCK_MAX, limits.STOCK_MAX)
        if change == 0:
            raise InvalidRequest(f"change of {sku!r}", "must not be 0")
        flat += (sku, change)
    keys = ShardKeys.of(sale)
    base = shard_call("restock", keys, op_id, encode(flat))
    call = Call(base.script, (*base.keys, keys.restocks), base.args)
    return (yield from perform_once(sale, call, "restock"))


def set_state(sale: str, state: SaleState) -> Operation[Answer]:
    """Pause, resume or end a sale."""
    call = shard_call("set_state", ShardKeys.of(sale), state.value)
    return (yield from perform_once(sale, call, "set_state"))


def purge(sale: str) -> Operation[Answer]:
    """Delete an ended sale's data, leaving a tombstone."""
    own = msgspec.structs.astuple(ShardKeys.of(sale))
    call = Call(load_script("inventory/purge"), own, ())
    return (yield from perform_once(sale, call, "purge"))
