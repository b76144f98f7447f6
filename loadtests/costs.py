"""What the server pays per decision: ``python -m loadtests.costs [--json] [--orders N]``.

Server CPU is INFO's used_cpu_user + used_cpu_sys before and after, divided by the operations;
memory is used_memory, likewise. Commands are packed beforehand and sent pipelined on one
connection, so that the figure is the server's alone. Server and client are pinned to a core
each where the system allows it. Beside ours, in the same run: the classic flash-sale script
(a set of buyers, a stock counter, a stream; no deadline, no replay), one EVALSHA an order and
batched by hand, and a bare EVALSHA with our payload.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any, cast

import msgspec
import redis

from flashsale import FlashSaleError, HoldRequest, Sale, Sku, inventory
from flashsale.baskets import WHOLE
from flashsale.batches import Item, Target, run_batch
from flashsale.calls import Call, Operation
from flashsale.embedded import EmbeddedServer
from flashsale.scripts import load_script, script_names
from flashsale.sync import FlashSale

BATCH = 256

CLASSIC = """#!lua
-- KEYS stock buyers orders; ARGV buyer, order, buyer, order ...
local sold = 0
for k = 1, #ARGV, 2 do
  if tonumber(redis.call('GET', KEYS[1])) > 0 and redis.call('SADD', KEYS[2], ARGV[k]) == 1 then
    redis.call('DECR', KEYS[1])
    redis.call('XADD', KEYS[3], '*', 'buyer', ARGV[k], 'order', ARGV[k + 1])
    sold = sold + 1
  end
end
return sold
"""
BARE = "#!lua\nreturn 1\n"

Command = tuple[Any, ...]


class Figure(msgspec.Struct, frozen=True):
    """One measured figure, its bound if there is one, and what it was measured with."""

    name: str
    value: float
    unit: str
    bound: float | None = None

    @property
    def verdict(self) -> str:
        if self.bound is None:
            return ""
        return "PASS" if self.value <= self.bound else "MISS"


def pin(pid: int, core: int) -> bool:
    """Pin a process to a core; False where the system cannot."""
    if not hasattr(os, "sched_setaffinity") or (os.cpu_count() or 1) < 2:
        return False
    os.sched_setaffinity(pid, {core})
    return True


def first_call(operation: Operation[Any]) -> Call:
    """The call an operation sends first."""
    return cast("Call", next(operation))


def command_of(call: Call) -> Command:
    now_ms = time.time_ns() // 1_000_000
    return ("EVALSHA", call.script.sha, len(call.keys), *call.keys, now_ms, *call.args)


class Bench:
    """A server, one connection to it, and its counters."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.client = redis.Redis.from_url(server.url)
        self.shop = FlashSale.from_url(server.url, timeout_ms=60_000)

    def cpu_us(self) -> float:
        info = cast("dict[str, float]", self.client.info("cpu"))
        return (info["used_cpu_user"] + info["used_cpu_sys"]) * 1e6

    def memory(self) -> int:
        return int(cast("dict[str, int]", self.client.info("memory"))["used_memory"])

    def send(self, commands: Iterable[Command], depth: int) -> tuple[float, list[Any]]:
        """Server CPU in µs for these commands, `depth` of them in flight, and the replies."""
        connection = self.client.connection_pool.get_connection()
        packed = [b"".join(connection.pack_command(*command)) for command in commands]
        replies = []
        before = self.cpu_us()
        for start in range(0, len(packed), depth):
            part = packed[start : start + depth]
            connection.send_packed_command([b"".join(part)])
            replies += [connection.read_response(disable_decoding=True) for _ in part]
        spent = self.cpu_us() - before
        self.client.connection_pool.release(connection)
        return spent, replies

    def empty(self) -> None:
        self.client.flushall(asynchronous=False)

    def load_scripts(self) -> None:
        """So that no call pays for the first sight of a script."""
        for name in script_names():
            self.client.script_load(load_script(name).source)


def buyers(count: int, offset: int = 0) -> list[tuple[str, str]]:
    """Buyers of 15 characters with hold ids of 7."""
    return [(f"buyer-{n:09d}", f"ord{n % 10_000:04d}") for n in range(offset, offset + count)]


def hold_calls(sale: str, who: Sequence[tuple[str, str]], batch: int) -> list[Command]:
    basket = {"lipstick": 1}
    return [
        command_of(
            first_call(
                inventory.hold_many(
                    sale, [HoldRequest(b, basket, h) for b, h in who[at : at + batch]]
                )
            )
        )
        for at in range(0, len(who), batch)
    ]


def verb_calls(
    sale: str, who: Sequence[tuple[str, str]], batch: int, verb: str, *extra: str
) -> list[Command]:
    items: list[Item | FlashSaleError] = [(Target(b, h), (WHOLE, "", "")) for b, h in who]
    return [
        command_of(first_call(run_batch(verb, sale, items[at : at + batch], *extra)))
        for at in range(0, len(who), batch)
    ]


def expect_codes(replies: Sequence[Any], letter: bytes) -> None:
    """A figure counts only if every operation had the outcome it is named for."""
    for reply in replies:
        if set(reply[3]) != set(letter):
            raise SystemExit(f"expected only {letter!r}, the server answered {reply!r:.200}")


def measure_ours(bench: Bench, orders: int, rounds: int) -> list[Figure]:
    """The costs of the engine's verbs in batches, the median of the rounds after a warm-up."""
    taken: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        bench.empty()
        for name, value in measure_round(bench, orders).items():
            if number:  # the first one warms the server up
                taken.setdefault(name, []).append(value)
    bounds = {
        "hold": 1.2, "memory per held order": 120.0, "refusal, sold out": 0.4,
        "confirm": 1.6, "release": 1.6, "expire": 1.6,
    }  # fmt: skip
    return [
        Figure(name, statistics.median(values), "B" if "memory" in name else "µs", bounds.get(name))
        for name, values in taken.items()
    ]


def measure_round(bench: Bench, orders: int) -> dict[str, float]:
    """µs of server CPU per operation, and bytes per held order."""
    who, figures = buyers(orders), {}
    numbers = iter(range(100))

    def new_sale(ttl: int = 900_000) -> str:
        skus = [Sku("lipstick", orders, limit=2)]
        return bench.shop.open(Sale(f"cost-{next(numbers)}", skus, hold_ttl_ms=ttl)).id

    def timed(name: str, commands: Sequence[Command], letter: bytes) -> None:
        spent, replies = bench.send(commands, depth=8)
        expect_codes(replies, letter)
        figures[name] = spent / orders

    bench.load_scripts()
    sale = new_sale()
    before = bench.memory()
    timed("hold", hold_calls(sale, who, BATCH), b"H")
    figures["memory per held order"] = (bench.memory() - before) / orders
    timed("replayed hold", hold_calls(sale, who, BATCH), b"H")
    timed("refusal, sold out", hold_calls(sale, buyers(orders, orders), BATCH), b"s")
    timed("confirm", verb_calls(sale, who, BATCH, "confirm", "refuse"), b"C")
    sale = new_sale()
    bench.send(hold_calls(sale, who, BATCH), 8)
    timed("release", verb_calls(sale, who, BATCH, "release"), b"R")
    sale = new_sale(ttl=2_000)
    bench.send(hold_calls(sale, who, BATCH), 8)
    time.sleep(2.1)
    sweep = command_of(first_call(inventory.expire(sale, BATCH)))
    spent, replies = bench.send([sweep] * (orders // BATCH + 1), 8)
    if sum(reply[2] for reply in replies) != orders:
        raise SystemExit("the sweep did not expire every hold")
    figures["expire"] = spent / orders
    return figures


def measure_single(bench: Bench, orders: int) -> list[Figure]:
    """One order a call, one call in flight: what an un-batched caller costs."""
    bench.empty()
    who = buyers(orders)
    sale = bench.shop.open(Sale("single", [Sku("lipstick", orders, limit=2)])).id
    bench.shop.sale(sale).hold("warm-up", {"lipstick": 1}, hold_id="w")
    bench.shop.sale(sale).release("warm-up", "w")
    commands = hold_calls(sale, who, 1)
    bare = bench.client.script_load(BARE)
    bares = [(command[0], bare, *command[2:]) for command in commands]
    bench.send(bares[:100], 1)
    spent_bare, _ = bench.send(bares, 1)
    spent, replies = bench.send(commands, 1)
    expect_codes(replies, b"H")
    return [
        Figure("single hold", spent / orders, "µs"),
        Figure("bare EVALSHA, same payload", spent_bare / orders, "µs"),
        Figure("single hold ÷ bare EVALSHA", spent / spent_bare, "×", 1.6),
    ]


def measure_classic(bench: Bench, orders: int) -> list[Figure]:
    """The classic script, every attempt wins."""
    figures = []
    who = buyers(orders)
    sha = bench.client.script_load(CLASSIC)
    for name, batch in (
        ("classic script, one EVALSHA an order", 1),
        ("classic script, 256 by hand", BATCH),
    ):
        bench.empty()
        bench.client.set("{c}stock", orders)
        sha = bench.client.script_load(CLASSIC)
        commands: list[Command] = []
        for at in range(0, orders, batch):
            flat = [value for pair in who[at : at + batch] for value in pair]
            commands.append(("EVALSHA", sha, 3, "{c}stock", "{c}buyers", "{c}orders", *flat))
        before = bench.memory()
        spent, replies = bench.send(commands, 8 if batch > 1 else 500)
        if sum(replies) != orders:
            raise SystemExit("the classic script did not sell what it should")
        figures.append(Figure(name, spent / orders, "µs"))
        figures.append(Figure(f"{name}: memory", (bench.memory() - before) / orders, "B"))
    return figures


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--orders", type=int, default=204_800)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    orders = options.orders // BATCH * BATCH
    with EmbeddedServer.start() as server:
        pinned = pin(server.pid, 0) and pin(0, 1)
        bench = Bench(server)
        figures = measure_ours(bench, orders, options.rounds) + measure_single(bench, orders // 10)
        figures += measure_classic(bench, orders)
        version = str(bench.shop.server())
        bench.shop.close()
        bench.client.close()
    by_name = {figure.name: figure.value for figure in figures}
    ratio = by_name["hold"] / by_name["classic script, one EVALSHA an order"]
    figures.append(Figure("hold ÷ classic, one EVALSHA an order", ratio, "×", 0.25))
    setup = {
        "server": version,
        "durability": "memory",
        "batch": BATCH,
        "orders": orders,
        "pinned": pinned,
        "cores": os.cpu_count(),
        "machine": platform.processor() or platform.machine(),
    }
    if options.json:
        rows = [msgspec.structs.asdict(f) | {"verdict": f.verdict} for f in figures]
        print(json.dumps({"setup": setup, "figures": rows}))
    else:
        print(", ".join(f"{key} {value}" for key, value in setup.items()))
        for f in figures:
            bound = "" if f.bound is None else f"<= {f.bound:g}"
            print(f"{f.name:42} {f.value:9.2f} {f.unit:3} {bound:9} {f.verdict}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
