"""What the longest script calls are measured on: a server, and sales written behind the library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import redis

from flashsale import FlashSale, Key, Sale, Sku, limits
from flashsale.baskets import check_basket
from flashsale.calls import Call, Compute, Operation
from flashsale.embedded import EmbeddedServer
from flashsale.keys import ShardKeys

KEY = Key("longest", b"k" * 32)
T0 = 4_000_000_000_000
"""When these sales take place: a shard's time never goes back, so it stands still here."""

TTL = 1_000
SKUS = [f"sku-{n:03}" for n in range(limits.SKUS_MAX)]
encode = msgspec.msgpack.encode

Case = tuple[str, str, "Callable[[Ground], Call]"]
"""The verb, what makes it long, and what prepares a new sale and says what to call."""


class Ground:
    """A server, and sales on it of which everything may be written."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.shop = FlashSale.from_url(server.url, timeout_ms=60_000, keys=[KEY])
        self.raw = redis.Redis.from_url(server.url)
        self.number = 0
        self.sale = ""

    def open(self, now: int = T0, **rules: object) -> ShardKeys:
        """A sale of the most skus there may be."""
        self.number += 1
        self.sale = f"long-{self.number}"
        skus = [Sku(sku, 10**9, 10**8) for sku in SKUS]
        given = {"hold_ttl_ms": TTL, "holds_max": limits.HOLDS_MAX, "limit": 10**9}
        given |= {"buyers_max": limits.BUYERS_MAX, **rules}  # a cue keeps a seat for each unit
        self.shop.open(Sale(self.sale, skus, **given))  # type: ignore[arg-type]
        keys = ShardKeys.of(self.sale)
        self.raw.hset(keys.sale, "now", now)
        return keys

    def records(self, records: dict[str, str]) -> None:
        """Write buyers' records."""
        with self.raw.pipeline(transaction=False) as pipe:
            for buyer, record in records.items():
                pipe.hset(ShardKeys.of(self.sale).buyers, buyer, record)
            pipe.execute()

    def entries(self, holders: Sequence[tuple[str, str]], at: int, size: int) -> None:
        """Write ledger entries of these holds, plain ones, and make them fall due."""
        keys = ShardKeys.of(self.sale)
        sequence = int(self.raw.hget(keys.sale, "sequence") or 0)  # type: ignore[arg-type]
        cursor = sequence + 1
        with self.raw.pipeline(transaction=False) as pipe:
            for start in range(0, len(holders), size):
                some, sequence = holders[start : start + size], sequence + 1
                fields = {
                    "t": at,
                    "hb": encode([b for b, _ in some]),
                    "hi": encode([i for _, i in some]),
                }
                pipe.xadd(keys.ledger, fields, id=f"1-{sequence}")
            pipe.hset(keys.sale, mapping={"sequence": sequence, "due": at + TTL, "cursor": cursor})
            pipe.execute()

    def unswept(self) -> None:
        """Let 20,480 holds of others be due before all others: no one call walks over them."""
        self.entries([(f"other-{n}", "h") for n in range(20_480)], T0 - TTL, 1_024)

    def do(self, operation: Operation[Any]) -> Any:
        """Run an operation that makes one call after the other, with a clock that is right here."""
        try:
            step = next(operation)
            while True:
                step = operation.send(self.step(step))
        except StopIteration as end:
            return end.value

    def step(self, step: Any) -> Any:
        return step.function() if isinstance(step, Compute) else self.send(step)

    def call_of(self, script: str, operation: Operation[Any], *args: object) -> Call:
        """The first call of a script that an operation makes (with these arguments), not sent."""
        step = next(operation)
        while True:
            if isinstance(step, Call) and step.script.name == script and {*args} <= {*step.args}:
                operation.close()
                return step
            step = operation.send(self.step(step))

    def call_by(self, script: str, ask: Callable[[], object]) -> Call:
        """The same, of what a method of a handle does."""
        caught: list[Call] = []
        perform = self.shop.perform

        def catch(operation: Operation[Any], timeout_ms: int | None = None) -> Any:
            caught.append(self.call_of(script, operation))
            raise InterruptedError

        self.shop.perform = catch  # type: ignore[method-assign, assignment]
        try:
            ask()
        except InterruptedError:
            return caught[0]
        finally:
            self.shop.perform = perform  # type: ignore[method-assign]
        raise AssertionError(f"nobody has called {script}")

    def send(self, call: Any) -> Any:
        args = [call.script.source, len(call.keys), *call.keys, T0, *call.args]
        return self.raw.execute_command("EVAL", *args)

    def cost(self, call: Call) -> tuple[float, object]:
        """Server CPU of a call, in milliseconds, and its reply."""
        sha = self.raw.script_load(call.script.source)
        args = [sha, len(call.keys), *call.keys, T0, *call.args]
        before = self._cpu()
        reply = self.raw.execute_command("EVALSHA", *args)
        return self._cpu() - before, reply

    def _cpu(self) -> float:
        used = self.raw.info("cpu")
        return 1000.0 * (used["used_cpu_user_main_thread"] + used["used_cpu_sys_main_thread"])


# --- what a sale may consist of -----------------------------------------------------------


def stamp(at: int) -> str:
    return f"{at:013}"


def long_id(n: int) -> str:
    """An id as long as there may be."""
    return f"{n:0{limits.ID_MAX}}"


def id_of_h(n: int) -> str:
    """An id full of the letter that a held hold's text begins with."""
    return "h" * (limits.ID_MAX - 6) + f"{n:06}"


def basket(start: int, lines: int = limits.LINES_MAX, qty: int = 999_983) -> str:
    """A basket's text, of distinct skus and long quantities."""
    indexes = sorted((start + 31 * k) % len(SKUS) for k in range(lines))
    return ",".join(f"{index}*{qty - index}" for index in indexes)


def heavy(at: int, state: str = "h", holds: int = limits.HOLDS_MAX - 1, extra: str = "") -> str:
    """A buyer's record with as many holds of as many lines as there may be."""
    texts = (f"{state}{stamp(at)}{long_id(n)}|{basket(7 * n)}{extra}" for n in range(holds))
    return "1" + ";".join(texts)


def wish(n: int, lines: int) -> tuple[str | int, ...]:
    return check_basket("basket", {SKUS[(n * lines + k) % len(SKUS)]: 1 + n for k in range(lines)})


def buyers(count: int) -> list[str]:
    return [f"buyer-{n:0{limits.ID_MAX - 6}}" for n in range(count)]
