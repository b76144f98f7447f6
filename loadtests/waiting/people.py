"""The crowd, its waiting rooms, and the commands that carry it, made before the clock starts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from msgspec import Struct

from flashsale import FlashSale, JoinRequest, Key, RoomView, Sale, WaitingRoom, waiting_room
from flashsale.batches import Item, Kind
from loadtests.targets.bench import BATCH, TIMEOUT_MS, Bench, Command, Machine, sale_value
from loadtests.targets.traffic import command_of

KEY = Key("2026-11", b"a secret that is 32 bytes long..")
HOUR_MS = 3_600_000
PART = 200 * BATCH
"""People whose commands are in memory at a time."""


class Crowd(Struct, frozen=True):
    """How many take part in what."""

    people: int

    def share(self, parts: int, least: int = 4 * BATCH) -> int:
        """A part of them, in whole batches, where all would take too long."""
        return max(least, self.people // parts) // BATCH * BATCH


class Spent(Struct, frozen=True):
    """What some people cost the server: µs of CPU and bytes each, and how many came a second."""

    us: float
    bytes: float
    per_s: float


class Hall:
    """The server, a client with a key, and rooms to be opened."""

    def __init__(self, bench: Bench, crowd: Crowd) -> None:
        self.machine: Machine = bench.machine()
        self.crowd, self.say = crowd, bench.say
        self.shop = FlashSale.from_url(self.machine.server.url, keys=[KEY], timeout_ms=TIMEOUT_MS)

    def close(self) -> None:
        self.shop.close()

    def open(self, *, admission: bool = False, **rules: Any) -> RoomView:
        """A new sale with a waiting room that takes everybody."""
        sale: Sale = sale_value(self.machine.new_id())
        self.shop.open(Sale(sale.id, sale.skus, hold_ttl_ms=HOUR_MS, admission=admission))
        rules = {"rate_per_s": 1_000_000, "turn_ttl_ms": HOUR_MS, "conversion": 0.01} | rules
        places = max(10_000_000, self.crowd.people)
        return self.shop.sale(sale.id).queue.open(WaitingRoom(places_max=places, **rules))

    def send_parts(self, count: int, build: Callable[[Sequence[str]], list[Command]]) -> Spent:
        """Send the commands of so many people, part by part; only the sending counts."""
        spent, seconds, before = 0.0, 0.0, self.machine.memory()
        for who in parts(count):
            packed = self.machine.pack(build(who))
            begun = time.perf_counter()
            taken, replies = self.machine.send(packed)
            seconds += time.perf_counter() - begun
            spent += taken
            expect_joined(replies)
        return Spent(spent / count, (self.machine.memory() - before) / count, count / seconds)


def names(count: int, first: int = 0) -> list[str]:
    """Distinct buyers of 15 characters."""
    return [f"buyer-{n:09d}" for n in range(first, first + count)]


def requests(who: Sequence[str]) -> list[JoinRequest]:
    return [JoinRequest(buyer) for buyer in who]


def parts(count: int, size: int = PART) -> Iterator[list[str]]:
    return (names(min(size, count - at), at) for at in range(0, count, size))


def joins(view: RoomView, who: Sequence[str]) -> list[Command]:
    """Batches of 256, as a client sends them."""
    return batched(waiting_room.join_kind(view), [waiting_room.join_item(b, "") for b in who])


def batched(kind: Kind, items: Sequence[Item]) -> list[Command]:
    return [command_of(kind.call(items[at : at + BATCH])) for at in range(0, len(items), BATCH)]


def expect_joined(replies: Sequence[Any]) -> None:
    """A figure counts only if everybody joined; a peer's replies are numbers."""
    codes = {bytes(reply[3]) for reply in replies if isinstance(reply, list)}
    if any(set(code) != set(b"1") for code in codes):
        raise RuntimeError(f"not everybody joined: {codes!r:.200}")
