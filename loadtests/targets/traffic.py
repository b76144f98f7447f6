"""Orders, and the commands that carry them, made before the clock starts."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from flashsale import HoldRequest, Sale, inventory
from flashsale.batches import Item, Kind, shard_call
from flashsale.calls import Call
from flashsale.keys import ShardKeys
from loadtests.targets.bench import BASKET, BATCH, Command

Order = tuple[str, str]
"""A buyer and a hold id."""


def orders(count: int, offset: int = 0) -> list[Order]:
    """Distinct buyers of 15 characters with hold ids of 7."""
    return [(f"buyer-{n:09d}", f"ord{n % 10_000:04d}") for n in range(offset, offset + count)]


def requests(who: Iterable[Order]) -> list[HoldRequest]:
    return [HoldRequest(buyer, BASKET, hold_id) for buyer, hold_id in who]


def command_of(call: Call) -> Command:
    """A call as a client sends it."""
    now_ms = time.time_ns() // 1_000_000
    return ("EVALSHA", call.script.sha, len(call.keys), *call.keys, now_ms, *call.args)


def open_call(sale: Sale) -> Command:
    call = next(inventory.open_sale(sale))
    assert isinstance(call, Call)
    return command_of(call)


def _parts(who: Sequence[Order], batch: int) -> Iterable[Sequence[Order]]:
    return (who[at : at + batch] for at in range(0, len(who), batch))


def hold_calls(who: Sequence[Order], batch: int = BATCH) -> list[Call]:
    """For any sale: see `for_sale`."""
    kind = inventory.hold_kind("any")
    return [
        kind.call([inventory.hold_item(b, BASKET, h, "", "") for b, h in part])
        for part in _parts(who, batch)
    ]


def holds(sale: str, who: Sequence[Order], batch: int = BATCH) -> list[Command]:
    return [for_sale(call, sale) for call in hold_calls(who, batch)]


def confirms(sale: str, who: Sequence[Order]) -> list[Command]:
    return _bare(inventory.confirm_kind(sale, "refuse"), who)


def releases(sale: str, who: Sequence[Order]) -> list[Command]:
    return _bare(inventory.release_kind(sale), who)


def _bare(kind: Kind, who: Sequence[Order]) -> list[Command]:
    return [
        command_of(kind.call([Item(buyer, hold_id) for buyer, hold_id in part]))
        for part in _parts(who, BATCH)
    ]


def sweeps(sale: str, count: int) -> list[Command]:
    """Enough sweeps for so many due holds."""
    sweep = command_of(shard_call("expire", ShardKeys.of(sale), BATCH))
    return [sweep] * (-(-count // BATCH) + 1)


def for_sale(call: Call, sale: str) -> Command:
    """The same operations on another sale: only the keys tell one from another."""
    own = ShardKeys.of(sale)
    keys = tuple(getattr(own, key.rpartition(":")[2]) for key in call.keys)
    return command_of(Call(call.script, keys, call.args))
