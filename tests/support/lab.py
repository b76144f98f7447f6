"""Sales whose time stands still, and a look at everything they consist of.

A shard's time never goes back. A test that writes a time far in the future into the shard has
a clock of its own from then on: it moves when the test says so, and deadlines are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
import redis
from msgspec import Struct

from flashsale import FlashSale, Sale, SaleHandle, Sku
from flashsale.calls import Call
from flashsale.keys import ShardKeys, places_key
from flashsale.ledger import Event
from flashsale.scripts import load_script

T0 = 4_000_000_000_000
"""When the tests' sales take place, unless they say otherwise: in the year 2096."""

COUNTERS = {"allotment": "t", "available": "a", "set_aside": "x", "held": "h", "sold": "s"}

Dump = dict[str, Any]
"""Per key everything in it, None if there is no such key."""

READ: dict[str, Callable[[Any, Any], object]] = {
    "none": lambda client, key: client.exists(key),
    "hash": lambda client, key: client.hgetall(key),
    "stream": lambda client, key: client.xrange(key),
    "zset": lambda client, key: client.zrange(key, 0, -1, withscores=True),
    "string": lambda client, key: client.get(key),
    "list": lambda client, key: client.lrange(key, 0, -1),
}


class Seen(Struct):
    """What happened meanwhile.

    effect: the counters that changed, e.g. "red a-3 h+3; blue a-1 h+1", in the order of the
    skus. events: e.g. ["held red*3 blue*1"]. entries: how many ledger entries they are in.
    """

    effect: str = ""
    events: list[str] = []
    entries: int = 0


class Lab:
    """Opens sales and holds their time; `raw` reaches behind the library."""

    def __init__(self, shop: FlashSale, raw: redis.Redis, new_id: Callable[[], str]) -> None:
        self.shop, self.raw, self.new_id = shop, raw, new_id

    def open(self, stock: Mapping[str, int] | None = None, **rules: Any) -> SaleHandle:
        """A new sale whose time stands still at T0: red and blue, ten of each, ttl 1 s.

        `limits` gives skus their limits; other rules are those of `Sale`.
        """
        limits = rules.pop("limits", {})
        units = {"red": 10, "blue": 10} if stock is None else stock
        skus = [Sku(sku, count, limits.get(sku)) for sku, count in units.items()]
        sale = Sale(self.new_id(), skus, **{"hold_ttl_ms": 1_000} | rules)
        handle = self.shop.open(sale)
        self.set_time(handle, T0)
        return handle

    def keys(self, sale: SaleHandle) -> ShardKeys:
        return ShardKeys.of(sale.id)

    def set_time(self, sale: SaleHandle, at_ms: int) -> None:
        """Let it be `at_ms` in this sale."""
        self.raw.hset(self.keys(sale).sale, "now", at_ms)

    def dump(self, *sales: SaleHandle) -> Dump:
        """Everything that these sales' keys hold."""
        names = [name for sale in sales for name in msgspec.structs.astuple(self.keys(sale))]
        with self.raw.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.type(name)
            types = [kind.decode() for kind in pipeline.execute()]
            for name, kind in zip(names, types, strict=True):
                READ[kind](pipeline, name)
            contents = pipeline.execute()
        return {
            name: None if kind == "none" else content
            for name, kind, content in zip(names, types, contents, strict=True)
        }

    @contextmanager
    def watch(self, sale: SaleHandle) -> Iterator[Seen]:
        """Note what happens to the sale's stock and ledger until the end of the block."""
        seen = Seen()
        before = sale.snapshot()
        yield seen
        after = sale.snapshot()
        changes = []
        for sku, view in after.skus.items():
            steps = [
                f"{letter}{step:+d}"
                for counter, letter in COUNTERS.items()
                if (step := getattr(view, counter) - getattr(before.skus[sku], counter))
            ]
            changes += [" ".join([sku, *steps])] if steps else []
        seen.effect = "; ".join(changes)
        entries = sale.ledger.read(after=before.sequence, count=1_000).entries
        seen.entries = len(entries)
        seen.events = [describe(event) for entry in entries for event in entry.events]

    def eval(
        self, name: str, sale: SaleHandle, *args: Any, caller_ms: Any = T0, hashes: int = 1
    ) -> Any:
        """Run a script with arguments of our own making, as no client of ours would.

        hashes: of a waiting room's places how many are given to a script that takes them.
        """
        script = load_script(name)
        names = keys_of(script.source)
        own = [getattr(self.keys(sale), key) for key in names if key != "places"]
        if "places" in names:
            own += [places_key(sale.id, number) for number in range(hashes)]
        return self.raw.eval(script.source, len(own), *own, caller_ms, *args)

    def run(self, call: Call, *, caller_ms: int) -> Any:
        """Run a client's call, but with another clock."""
        return self.raw.eval(call.script.source, len(call.keys), *call.keys, caller_ms, *call.args)


def keys_of(source: str) -> list[str]:
    """The names after KEYS in a script's header."""
    names = source.partition("-- KEYS ")[2].partition("-- ARGV")[0]
    return [name for name in names.split() if name != "--"]


def describe(event: Event) -> str:
    """An event in a line: its kind, its lines, and what else is peculiar to it."""
    lines = [f"{sku}*{qty}" for sku, qty in event.lines.items()]
    return " ".join([event.kind.value, *lines, *filter(None, [event.op_id])])


def dump_key(raw: Any, key: str | bytes) -> Any:
    """The whole content of a key of any type; None if there is none."""
    kind = raw.type(key).decode()
    return None if kind == "none" else READ[kind](raw, key)
