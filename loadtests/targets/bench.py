"""The servers a run uses, pinned to a core of their own, and their counters."""

from __future__ import annotations

import gc
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from flashsale import FlashSale, Sale, Sku
from flashsale.embedded import EmbeddedServer
from flashsale.scripts import load_script, script_names
from flashsale.server_check import Durability
from loadtests.targets.figures import Sizes

BATCH = 256
SKU = "lipstick"
BASKET = {SKU: 1}
TIMEOUT_MS = 60_000
EMPTYING_S = 300
"""How long emptying a server of ten million fields may take it."""

Command = tuple[Any, ...]
Packed = list[tuple[bytes, int]]
"""What is sent together, and how many replies it has."""

Say = Callable[[str], None]


def pin(pid: int, core: int) -> bool:
    """Pin every thread a process has to a core; False where the system cannot."""
    if not hasattr(os, "sched_setaffinity") or (os.cpu_count() or 1) < 2:
        return False
    tasks = Path(f"/proc/{pid or os.getpid()}/task")
    for task in [int(path.name) for path in tasks.iterdir()] if tasks.is_dir() else [pid]:
        os.sched_setaffinity(task, {core})
    return True


def sale_value(sale: str, stock: int = 10**9, ttl_ms: int = 900_000) -> Sale:
    return Sale(sale, [Sku(SKU, stock, limit=2)], hold_ttl_ms=ttl_ms)


class Machine:
    """One embedded server, a connection of our own to it, and its counters."""

    def __init__(self, durability: Durability) -> None:
        # A rewrite of the append-only file forks in the middle of a figure.
        config = {"auto-aof-rewrite-percentage": "0"}
        self.server = EmbeddedServer.start(durability=durability, config=config)
        self.durability: Durability = durability
        self.pinned = pin(self.server.pid, 0)
        self.client = redis.Redis.from_url(
            self.server.url, retry=Retry(NoBackoff(), 0), socket_timeout=EMPTYING_S
        )
        self.shop = FlashSale.from_url(
            self.server.url, timeout_ms=TIMEOUT_MS, durability=durability
        )
        self._numbers = itertools.count(1)
        for name in script_names():  # so that no call pays for the first sight of a script
            self.client.script_load(load_script(name).source)

    def close(self) -> None:
        self.shop.close()
        self.client.close()
        self.server.stop()

    def empty(self) -> None:
        """Delete everything and wait for it: what is freed later would count as the next work's."""
        self.client.execute_command("FLUSHALL", "SYNC")  # redis-py sends no SYNC of its own

    def new_id(self) -> str:
        """The id of a sale to be opened, as long as every other's."""
        return f"sale-{next(self._numbers):06d}"

    def open(self, sale: str = "", *, stock: int = 10**9, ttl_ms: int = 900_000) -> str:
        """Open a sale of one sku; its id."""
        return self.shop.open(sale_value(sale or self.new_id(), stock, ttl_ms)).id

    def cpu_us(self) -> float:
        info = cast("dict[str, float]", self.client.info("cpu"))
        return (info["used_cpu_user"] + info["used_cpu_sys"]) * 1e6

    def memory(self) -> int:
        return int(cast("dict[str, int]", self.client.info("memory"))["used_memory"])

    def wire_at(self) -> tuple[int, int]:
        """Bytes that ever came in and went out; asking adds some hundred."""
        info = cast("dict[str, int]", self.client.info("stats"))
        return info["total_net_input_bytes"], info["total_net_output_bytes"]

    def pack(self, commands: Iterable[Command], depth: int = 8) -> Packed:
        """The bytes of these commands, `depth` of them in flight at a time."""
        connection: Any = self.client.connection_pool.get_connection()
        try:
            packed = [b"".join(connection.pack_command(*command)) for command in commands]
        finally:
            self.client.connection_pool.release(connection)
        groups = (packed[at : at + depth] for at in range(0, len(packed), depth))
        return [(b"".join(group), len(group)) for group in groups]

    def send(self, packed: Packed) -> tuple[float, list[Any]]:
        """Server CPU in µs for what was packed beforehand, and the replies."""
        connection: Any = self.client.connection_pool.get_connection()
        replies: list[Any] = []
        try:
            before = self.cpu_us()
            for group, count in packed:
                connection.send_packed_command([group])
                replies += [connection.read_response(disable_decoding=True) for _ in range(count)]
            return self.cpu_us() - before, replies
        finally:
            self.client.connection_pool.release(connection)


class Bench:
    """What every subject is given: the servers, the sizes, and somebody to tell the progress."""

    def __init__(self, sizes: Sizes, say: Say, *, postgres: str | None = None) -> None:
        self.sizes = sizes
        self.say = say
        self.postgres = postgres
        self.capacities: dict[str, dict[str, float]] = {}
        self._machines: dict[Durability, Machine] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._stack = stack
            pin(0, 1)  # the threads and loops to come inherit it
            self.machine("memory")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def machine(self, durability: Durability = "memory") -> Machine:
        """The server of a durability level; started when it is first asked for."""
        if durability not in self._machines:
            machine = self._machines[durability] = Machine(durability)
            self._stack.callback(machine.close)
        return self._machines[durability]

    def rounds(
        self, measure: Callable[[], Mapping[str, float]], *, count: int | None = None
    ) -> dict[str, float]:
        """The medians of the rounds, after one that warms up; of `count`, none of them does."""
        taken: dict[str, list[float]] = {}
        for number in range(self.sizes.rounds + 1 if count is None else count):
            for name, value in measure().items():
                if number or count is not None:
                    taken.setdefault(name, []).append(value)
        return {name: statistics.median(values) for name, values in taken.items()}


def settle() -> None:
    """Put what the preparation left behind out of the garbage collector's sight."""
    gc.collect()
    gc.freeze()


def until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def expect_codes(replies: Sequence[Any], letters: bytes) -> bytes:
    """A figure counts only if every operation had the outcome it is named for."""
    codes = b"".join(reply[3] for reply in replies)
    if not codes or set(codes) - set(letters):
        raise RuntimeError(f"expected only {letters!r}, the server answered {set(codes)!r:.200}")
    return codes
