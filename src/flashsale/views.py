"""Looking at a sale without changing it, as operations without I/O."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TypeAlias

import msgspec

from flashsale import limits
from flashsale.baskets import encode
from flashsale.batches import STATES, Target, reject
from flashsale.calls import Call, FromReplica, Operation, Reply, damaged, expect, reading
from flashsale.errors import Rejected, StoreUnavailable
from flashsale.keys import CueKeys, ShardKeys
from flashsale.models import Hold, HoldState, Outcome, Sale, SaleState, SkuView, Snapshot
from flashsale.rooms import WaitingRoom
from flashsale.scripts import load_script


def pairs(flat: Sequence[str | int]) -> dict[str, int]:
    """{sku: qty} from sku, qty, sku, qty …"""
    return {str(flat[at]): int(flat[at + 1]) for at in range(0, len(flat), 2)}


def read_holds(sale: str, buyer: str, shown: Sequence[Reply]) -> list[Hold]:
    """A buyer's holds as find.lua and scan.lua show them."""
    with reading("buyers", buyer):
        return _holds(sale, buyer, shown)


def _holds(sale: str, buyer: str, shown: Sequence[Reply]) -> list[Hold]:
    return [
        Hold(
            sale=sale,
            buyer=buyer,
            hold_id=hold_id,
            state=STATES[state],
            lines=pairs(lines),
            sold=pairs(sold),
            deadline_ms=deadline or None,
            original_deadline_ms=original or None,
            refunds={refunds[at]: pairs(refunds[at + 1]) for at in range(0, len(refunds), 2)},
        )
        for hold_id, state, deadline, original, lines, sold, refunds in shown
    ]


def find_buyer(sale: str, buyer: str) -> Operation[tuple[int, int, list[Hold]]]:
    """The sequence of the moment, the latest time that it may be, and every hold of a buyer."""
    buyer = limits.check_id("buyer", buyer)
    keys = ShardKeys.of(sale)
    own = (keys.sale, keys.stock, keys.buyers)
    reply = yield Call(load_script("inventory/find"), own, (encode([buyer]),), shared=True)
    _, _, latest, sequence, code, packed = expect(reply, 6, "find")
    reject(sale, code)
    (shown,) = msgspec.msgpack.decode(packed)
    return sequence, latest, read_holds(sale, buyer, shown)


def find(sale: str, target: Target) -> Operation[Hold | None]:
    """One hold, or None; Rejected (CLOCK_JUMP) if the clocks disagree whether it has expired."""
    _, latest, holds = yield from find_buyer(sale, target.buyer)
    found = next((hold for hold in holds if hold.hold_id == target.hold_id), None)
    if found is not None:
        _check_deadline(found, latest)
    return found


def holds_of(sale: str, buyer: str) -> Operation[list[Hold]]:
    """Every hold of a buyer; Rejected (CLOCK_JUMP) if one of them is in doubt, as with `find`."""
    _, latest, holds = yield from find_buyer(sale, buyer)
    for hold in holds:
        _check_deadline(hold, latest)
    return holds


def _check_deadline(hold: Hold, latest_ms: int) -> None:
    if hold.state is HoldState.HELD and hold.deadline_ms and hold.deadline_ms <= latest_ms:
        raise Rejected(Outcome.CLOCK_JUMP, f"hold {hold.hold_id!r} of {hold.buyer!r}")


def snapshot(sale: str) -> Operation[Snapshot]:
    """A sale at one moment."""
    sale = limits.check_id("sale", sale)
    keys = ShardKeys.of(sale)
    own = (keys.sale, keys.skus, keys.stock, keys.buyers)
    reply = yield Call(load_script("inventory/snapshot"), own, (), shared=True)
    epoch, now, sequence, code, definition, state, buyers, due, units = expect(reply, 9, "snapshot")
    reject(sale, code)
    with reading("sale", "definition"):
        defined = msgspec.json.decode(definition, type=Sale)
    with reading("sale", "state"):
        told_state = SaleState(state.decode())
    skus = {}
    for at, sku in zip(range(0, len(units), 7), defined.skus, strict=False):
        skus[sku.id] = _sku_view(sku.id, at // 7, units[at : at + 7])
    return Snapshot(
        sale=defined,
        state=told_state,
        at_ms=now,
        epoch=epoch,
        sequence=sequence,
        buyers=buyers,
        due_at_ms=int(due) if due else None,
        skus=skus,
        stale=isinstance(reply, FromReplica),
    )


def _sku_view(sku: str, index: int, values: Sequence[bytes]) -> SkuView:
    name, limit, *counters = values
    if name != sku.encode():
        raise damaged("stock", f"{index}n")
    units = [_stored_int(value, f"{index}{n}") for n, value in zip("taxhs", counters, strict=True)]
    allotment, available, set_aside, held, sold = units
    bound = _stored_int(limit, f"{index}l") if limit else None
    return SkuView(sku, allotment, available, set_aside, held, sold, bound)


def _stored_int(value: bytes, field: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise damaged("stock", field) from None


def key_states(sale: str, cues: Sequence[str] = ()) -> Operation[dict[str, str]]:
    """What is wrong with a sale's keys and with the hashes of these cues: name → what, if anything.

    "missing" is what is not there, which may be right, or "mistyped". Rejected if nothing of the
    sale is there, or its tombstone alone.
    """
    own = msgspec.structs.asdict(ShardKeys.of(sale))
    own |= {f"cue:{cue}": CueKeys.of(sale, cue).cue for cue in cues}
    reply = yield Call(load_script("inventory/key_states"), tuple(own.values()), ())
    code, states = expect(reply, 2, "key_states")
    reject(sale, code)
    return {name: state.decode() for name, state in zip(own, states, strict=True) if state}


def cue_ids(sale: str) -> Operation[list[str]]:
    """The ids of a sale's cues, in the order of their opening; none of a sale that is not there."""
    keys = ShardKeys.of(sale)
    reply = yield Call(load_script("window/list"), (keys.sale, keys.cues), (), shared=True)
    _, _, _, flat = expect(reply, 4, "list")
    opened = {}
    for at in range(0, len(flat), 2):
        cue = flat[at].decode(errors="backslashreplace")
        with reading("cues", cue):
            opened[cue] = int(flat[at + 1])
    return sorted(opened, key=opened.__getitem__)


Parts: TypeAlias = dict[str, dict[str, int]]
"""What is set aside, by cue and sku."""


def parts(sale: str, skus: Sequence[str], cursor: str) -> Operation[tuple[str, int, Parts]]:
    """A page of what is set aside: the next cursor, the sequence of the moment, and the parts.

    `skus` in their order.
    """
    keys = ShardKeys.of(sale)
    reply = yield Call(load_script("window/parts"), (keys.sale, keys.stock), (cursor,))
    _, _, sequence, code, following, flat = expect(reply, 6, "parts")
    reject(sale, code)
    found: Parts = {}
    for at in range(0, len(flat), 2):
        field = flat[at].decode(errors="backslashreplace")
        index, _, cue = field.partition("x:")
        with reading("stock", field):
            sku = skus[int(index)] if int(index) < len(skus) else f"#{index}"
            found.setdefault(cue, {})[sku] = int(flat[at + 1])
    return following.decode(), sequence, found


def place_hashes(sale: str) -> Operation[int]:
    """Over how many hashes the places of a sale's waiting room are spread; 0 without one."""
    keys = ShardKeys.of(sale)
    reply = yield Call(load_script("waiting_room/definition"), (keys.sale, keys.room), ())
    definition = expect(reply, 4, "definition")[3]
    if not definition:
        return 0
    with reading("room", "definition"):
        return msgspec.json.decode(definition, type=WaitingRoom).hashes


Records: TypeAlias = dict[str, list[Hold] | None]
"""Holds by buyer; None where the record cannot be read."""


def scan(sale: str, cursor: str, count: int) -> Operation[tuple[str, int, Records]]:
    """A page of all buyers with their holds as stored, the next cursor and the sequence."""
    keys = ShardKeys.of(sale)
    own = (keys.sale, keys.stock, keys.buyers)
    reply = yield Call(load_script("inventory/scan"), own, (cursor, count))
    _, _, sequence, code, following, packed = expect(reply, 6, "scan")
    reject(sale, code)
    flat = msgspec.msgpack.decode(packed)
    page: Records = {}
    for at in range(0, len(flat), 2):
        page[flat[at]] = None
        with suppress(StoreUnavailable):
            page[flat[at]] = read_holds(sale, flat[at], flat[at + 1])
    return following.decode(), sequence, page
