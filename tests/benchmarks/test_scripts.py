"""One script call of 256 operations, for every verb that takes a batch, and the sweep."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
import redis

from flashsale import FlashSale, Sale, Sku, inventory
from flashsale.batches import Item, shard_call
from flashsale.calls import Call
from flashsale.keys import ShardKeys
from flashsale.scripts import load_script, script_names

BATCH = 256
ROUNDS = 50
BASKET = ("lipstick", 1)
NUMBERS = count()


class Lane:
    """A sale, and raw script calls to it: no client in between."""

    def __init__(self, shop: FlashSale, client: Any, sale_id: str, ttl_ms: int = 900_000) -> None:
        sale = Sale(sale_id, [Sku("lipstick", 10**9, limit=2)], hold_ttl_ms=ttl_ms)
        self.sale = shop.open(sale).id
        self._client = client

    def call(self, call: Call) -> list[Any]:
        now_ms = time.time_ns() // 1_000_000
        command = ("EVALSHA", call.script.sha, len(call.keys), *call.keys, now_ms, *call.args)
        reply: list[Any] = self._client.execute_command(*command)
        return reply

    def hold(self) -> list[Item]:
        """256 new holds, taken."""
        items = [Item(f"buyer-{next(NUMBERS):09d}", "ord0001", BASKET) for _ in range(BATCH)]
        assert set(self.call(inventory.hold_kind(self.sale).call(items))[3]) == set(b"H")
        return items


@pytest.fixture
def shop(server_url: str, raw: redis.Redis) -> Iterator[FlashSale]:
    for name in script_names():
        raw.script_load(load_script(name).source)
    with FlashSale.from_url(server_url, timeout_ms=20_000) as shop:
        yield shop


@pytest.fixture
def lane(shop: FlashSale, raw: redis.Redis, new_sale_id: Callable[[], str]) -> Lane:
    return Lane(shop, raw, new_sale_id())


def timed(benchmark: Any, lane: Lane, make: Callable[[], Call], wanted: bytes) -> None:
    """Each round has a call of its own, made before the clock starts."""
    replies: list[list[Any]] = []
    benchmark.pedantic(
        lambda call: replies.append(lane.call(call)),
        setup=lambda: ((make(),), {}),
        rounds=ROUNDS,
    )
    assert {letter for reply in replies for letter in reply[3]} == set(wanted)


def test_hold(benchmark: Any, lane: Lane) -> None:
    def fresh() -> Call:
        items = [Item(f"buyer-{next(NUMBERS):09d}", "ord0001", BASKET) for _ in range(BATCH)]
        return inventory.hold_kind(lane.sale).call(items)

    timed(benchmark, lane, fresh, b"H")


def test_hold_replayed(benchmark: Any, lane: Lane) -> None:
    call = inventory.hold_kind(lane.sale).call(lane.hold())
    timed(benchmark, lane, lambda: call, b"H")


def test_hold_when_sold_out(
    benchmark: Any, shop: FlashSale, lane: Lane, new_sale_id: Callable[[], str]
) -> None:
    sold_out = shop.open(Sale(new_sale_id(), [Sku("lipstick", 0)])).id

    def fresh() -> Call:
        items = [Item(f"buyer-{next(NUMBERS):09d}", "ord0001", BASKET) for _ in range(BATCH)]
        return inventory.hold_kind(sold_out).call(items)

    timed(benchmark, lane, fresh, b"S")


@pytest.mark.parametrize(("verb", "code"), [("confirm", b"C"), ("release", b"R")])
def test_confirm_and_release(benchmark: Any, lane: Lane, verb: str, code: bytes) -> None:
    confirming = inventory.confirm_kind(lane.sale, "refuse")
    kind = confirming if verb == "confirm" else inventory.release_kind(lane.sale)

    def bare() -> Call:
        return kind.call([Item(item.buyer, item.hold_id) for item in lane.hold()])

    timed(benchmark, lane, bare, code)


def test_extend(benchmark: Any, lane: Lane) -> None:
    def later() -> Call:
        items = lane.hold()
        until = time.time_ns() // 1_000_000 + 901_000
        longer = [Item(item.buyer, item.hold_id, (), until) for item in items]
        return inventory.extend_kind(lane.sale).call(longer)

    timed(benchmark, lane, later, b"X")


def test_refund(benchmark: Any, lane: Lane) -> None:
    def paid() -> Call:
        items = lane.hold()
        bare = [Item(item.buyer, item.hold_id) for item in items]
        lane.call(inventory.confirm_kind(lane.sale, "refuse").call(bare))
        back = [Item(item.buyer, item.hold_id, BASKET, "op1") for item in items]
        return inventory.refund_kind(lane.sale).call(back)

    timed(benchmark, lane, paid, b"F")


def test_expire(
    benchmark: Any, shop: FlashSale, raw: redis.Redis, new_sale_id: Callable[[], str]
) -> None:
    lane = Lane(shop, raw, new_sale_id(), ttl_ms=1)
    expired: list[int] = []

    def due() -> Any:
        lane.hold()
        time.sleep(0.003)
        return (shard_call("expire", ShardKeys.of(lane.sale), BATCH),), {}

    benchmark.pedantic(lambda call: expired.append(lane.call(call)[2]), setup=due, rounds=ROUNDS)
    assert set(expired) == {BATCH}
