"""The verbs of a sale's stock, as operations without I/O; lua/inventory/ decides them.

Every verb on holds takes a batch; a single one is a batch of one on the same path.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from flashsale import limits, views
from flashsale.baskets import WHOLE, check_basket, encode, pack_baskets
from flashsale.batches import (
    Item,
    Kind,
    Target,
    check_sequence,
    names_of,
    perform_once,
    reject,
    run_all,
    shard_call,
    target_of,
)
from flashsale.calls import Call, Operation, Pause, expect
from flashsale.errors import FlashSaleError, InvalidRequest, Rejected
from flashsale.keys import CueKeys, ShardKeys, places_key
from flashsale.models import LATE, Answer, Basket, Hold, HoldRequest, Outcome, Sale, SaleState
from flashsale.scripts import load_script

NONE = ""
"""The channel, note and key of nearly every hold: the very same object, so nothing lies here."""

# --- verbs on holds: what is checked, and what the operations of a batch share -------------


def hold_kind(sale: str) -> Kind:
    """Take stock for buyers until a deadline."""
    return Kind("hold", sale, build=_hold_call)


def _hold_call(kind: Kind, items: Sequence[Item]) -> Call:
    keys, baskets = ShardKeys.of(kind.sale), pack_baskets([item.lines for item in items])
    first, second = [item.first for item in items], [item.second for item in items]
    marks = encode([first, second]) if any(first) or any(second) else b""
    cap_keys = [item.key for item in items]
    counted = encode(cap_keys) if any(cap_keys) else b""
    base = shard_call("hold", keys, *names_of(items), baskets, marks, counted)
    return Call(base.script, (*base.keys, keys.room, keys.admitted, keys.caps), base.args)


def hold_item(
    buyer: str, basket: Basket, hold_id: str, channel: str, note: str, key: str = ""
) -> Item:
    """One hold, checked."""
    buyer, hold_id = limits.check_new_hold_ids(buyer, hold_id)
    lines = check_basket("basket", basket)
    if channel is NONE and note is NONE and key is NONE:
        return Item(buyer, hold_id, lines)  # nearly always, and three checks cost as much as this
    channel = limits.check_optional_id("channel", channel)
    note = limits.check_note("note", note)
    key = limits.check_optional_id("key", key)
    return Item(buyer, hold_id, lines, channel, note, key)


def hold_many(
    sale: str, requests: Sequence[HoldRequest]
) -> Operation[list[Answer | FlashSaleError]]:
    """Take stock for many buyers, item by item."""
    requests = check_sequence("requests", requests)
    return (yield from run_all(hold_kind(sale), requests, _request_item))


def _request_item(request: HoldRequest) -> Item:
    if not isinstance(request, HoldRequest):
        raise InvalidRequest("requests", f"must be HoldRequests, not {type(request).__name__}")
    return hold_item(
        request.buyer,
        request.basket,
        request.hold_id,
        request.channel,
        request.note,
        request.key,
    )


def confirm_kind(sale: str, late: str) -> Kind:
    """Sell holds; `late` is one of the two ways to treat a payment after the deadline."""
    return Kind("confirm", sale, (limits.check_choice("late", late, LATE),), _confirm_call)


def _confirm_call(kind: Kind, items: Sequence[Item]) -> Call:
    baskets = pack_baskets([item.lines for item in items])
    return shard_call("confirm", ShardKeys.of(kind.sale), *names_of(items), baskets, *kind.extra)


def confirm_item(target: Target, lines: Basket | None) -> Item:
    """One payment: of the whole hold, or of some of its lines."""
    wanted = WHOLE if lines is None else check_basket("lines", lines)
    return Item(target.buyer, target.hold_id, wanted)


def confirm_many(
    sale: str, holds: Sequence[Answer | Hold | str], late: str
) -> Operation[list[Answer | FlashSaleError]]:
    """Sell many holds, each whole."""
    holds = check_sequence("holds", holds)
    return (yield from run_all(confirm_kind(sale, late), holds, _whole_of(sale)))


def release_kind(sale: str) -> Kind:
    """Give holds up."""
    return Kind("release", sale)


def release_item(target: Target) -> Item:
    """One hold to give up."""
    return Item(target.buyer, target.hold_id)


def release_many(
    sale: str, holds: Sequence[Answer | Hold | str]
) -> Operation[list[Answer | FlashSaleError]]:
    """Give many holds up."""
    holds = check_sequence("holds", holds)
    return (yield from run_all(release_kind(sale), holds, _whole_of(sale)))


def _whole_of(sale: str) -> Callable[[Answer | Hold | str], Item]:
    def check(hold: Answer | Hold | str) -> Item:
        target = target_of(sale, hold, None)
        return Item(target.buyer, target.hold_id)

    return check


def extend_kind(sale: str) -> Kind:
    """Set holds' deadlines later."""
    return Kind("extend", sale, build=_extend_call)


def _extend_call(kind: Kind, items: Sequence[Item]) -> Call:
    deadlines = encode([item.first for item in items])
    return shard_call("extend", ShardKeys.of(kind.sale), *names_of(items), deadlines)


def extend_item(target: Target, deadline_ms: int) -> Item:
    """One hold and its new deadline."""
    deadline_ms = limits.check_time("deadline_ms", deadline_ms)
    return Item(target.buyer, target.hold_id, WHOLE, deadline_ms)


def refund_kind(sale: str) -> Kind:
    """Take paid lines back into stock."""
    return Kind("refund", sale, build=_refund_call)


def _refund_call(kind: Kind, items: Sequence[Item]) -> Call:
    baskets = pack_baskets([item.lines for item in items])
    op_ids = encode([item.first for item in items])
    return shard_call("refund", ShardKeys.of(kind.sale), *names_of(items), baskets, op_ids)


def refund_item(target: Target, lines: Basket, op_id: str) -> Item:
    """One refund, once by `op_id`."""
    wanted = check_basket("lines", lines)
    return Item(target.buyer, target.hold_id, wanted, limits.check_id("op_id", op_id))


# --- verbs on the sale --------------------------------------------------------------------


def expire(sale: str, max_holds: int) -> Operation[int]:
    """Sweep up to `max_holds` due holds (rounded up to a whole ledger entry) back to stock.

    As many calls as it takes, or as there is time for: each looks at a bounded number of holds.
    """
    max_holds = limits.check_int("max_holds", max_holds, 1, limits.SWEEP_MAX)
    expired, more = 0, 1
    while more and expired < max_holds:
        reply = yield shard_call("expire", ShardKeys.of(sale), max_holds - expired)
        _, _, swept, more, code = expect(reply, 5, "expire")
        reject(sale, code)
        expired += swept
        if more and not (yield Pause(0.0)):
            break
    return expired


def attach_sale(sale: str | Sale) -> Operation[str]:
    """The id of a sale that is there, and is the one defined if a definition is given."""
    if not isinstance(sale, Sale):
        return (yield from views.snapshot(sale)).sale.id
    found = yield from views.snapshot(sale.id)
    if found.sale != _plain_sale(sale):
        raise Rejected(Outcome.CONFLICT, f"sale {sale.id!r}")
    return found.sale.id


def _plain_sale(sale: Sale) -> Sale:
    """A subclass may have further fields, which would make another definition of the same sale."""
    if type(sale) is Sale:
        return sale
    return Sale(**{field: getattr(sale, field) for field in Sale.__struct_fields__})


def open_sale(sale: Sale) -> Operation[Answer]:
    """Create a sale; the same definition again is a no-op, another raises Rejected (CONFLICT)."""
    if not isinstance(sale, Sale):
        raise InvalidRequest("sale", f"must be a Sale, not {type(sale).__name__}")
    sale = _plain_sale(sale)
    keys = ShardKeys.of(sale.id)
    rules = (
        sale.hold_ttl_ms,
        False if sale.opens_at_ms is None else sale.opens_at_ms,
        False if sale.closes_at_ms is None else sale.closes_at_ms,
        False if sale.limit is None else sale.limit,
        sale.holds_max,
        sale.extend_max_ms,
        sale.buyers_max,
        sale.admission,
        False if sale.key_holds_max is None else sale.key_holds_max,
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
    op_id = limits.check_id("op_id", op_id)
    if not isinstance(changes, Mapping):
        raise InvalidRequest("changes", "must be a mapping of sku to change")
    if not 1 <= len(changes) <= limits.SKUS_MAX:
        raise InvalidRequest("changes", f"must name 1 to {limits.SKUS_MAX} skus")
    bound = limits.STOCK_MAX
    found = limits.check_units("changes", changes.items(), "change of {!r}", -bound, bound)
    for sku, change in found.items():
        if change == 0:
            raise InvalidRequest(f"change of {sku!r}", "must not be 0")
    keys = ShardKeys.of(sale)
    base = shard_call("restock", keys, op_id, encode([v for pair in found.items() for v in pair]))
    call = Call(base.script, (*base.keys, keys.restocks), base.args)
    return (yield from perform_once(sale, call, "restock"))


def set_state(sale: str, state: SaleState) -> Operation[Answer]:
    """Pause, resume or end a sale."""
    call = shard_call("set_state", ShardKeys.of(sale), state.value)
    return (yield from perform_once(sale, call, "set_state"))


def purge(sale: str) -> Operation[Answer]:
    """Delete an ended sale's data, leaving a tombstone."""
    own = msgspec.structs.astuple(ShardKeys.of(sale))
    cues = yield from views.cue_ids(sale)
    theirs = [key for cue in cues for key in msgspec.structs.astuple(CueKeys.of(sale, cue))]
    hashes = yield from views.place_hashes(sale)
    places = (places_key(sale, number) for number in range(hashes))
    call = Call(load_script("inventory/purge"), (*own, *theirs, *places), (len(cues), hashes))
    return (yield from perform_once(sale, call, "purge"))
