"""A sale whose slot moves to another node: before a call, during it, and under load."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cluster.crowd import Crowd
from cluster.test_life import whole_life
from faults.checks import MARGIN_S, books_are_right, kinds_of
from faults.test_race import every_unit_is_sold
from flashsale import (
    AsyncFlashSale,
    EventKind,
    FlashSale,
    HoldRequest,
    HoldState,
    Outcome,
    Sale,
    Sku,
    StoreError,
    StoreUnavailable,
    WaitingRoom,
    limits,
)
from flashsale.embedded import EmbeddedServer
from flashsale.keys import ShardKeys
from support.cluster import Cluster, Move, slot_of


def slot(sale: Any) -> int:
    return slot_of(ShardKeys.of(sale.id).sale)


def move_on(cluster: Cluster, sale: Any) -> EmbeddedServer:
    """Move a sale to the next node."""
    target = next_node(cluster, sale)
    cluster.move_slot(slot(sale), target)
    return target


def next_node(cluster: Cluster, sale: Any) -> EmbeddedServer:
    place = cluster.nodes.index(cluster.owner_of_slot(slot(sale)))
    return cluster.nodes[(place + 1) % len(cluster.nodes)]


@contextmanager
def half_done(cluster: Cluster, sale: Any) -> Iterator[Move]:
    """A move that has only begun; it is finished at the end, keys and all."""
    move = cluster.move(slot(sale), next_node(cluster, sale))
    try:
        yield move
    finally:
        move.keys()
        move.finish()


@contextmanager
def finishing_after(seconds: float, move: Move) -> Iterator[None]:
    """The move ends by itself a little later."""

    def finish() -> None:
        time.sleep(seconds)
        move.keys()
        move.finish()

    thread = threading.Thread(target=finish)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@pytest.fixture
def sale(shop: FlashSale, new_sale_id: Callable[[], str]) -> Any:
    """A sale in which ann holds one and bob two; every key that a hold touches is there."""
    rules: Any = {"hold_ttl_ms": 60_000, "key_holds_max": 9}
    sale = shop.open(Sale(new_sale_id(), [Sku("red", 20)], **rules))
    sale.queue.open(WaitingRoom(rate_per_s=1_000_000, places_max=1_000))
    sale.queue.join("eve")
    sale.queue.view()
    assert sale.queue.admit("eve").outcome is Outcome.ADMITTED
    ann = sale.hold("ann", {"red": 1}, hold_id="h", key="phone").unwrap()
    sale.extend(ann, deadline_ms=ann.deadline_ms + 1_000).unwrap()
    sale.hold("bob", {"red": 2}, hold_id="h").unwrap()
    return sale


# --- moved --------------------------------------------------------------------------------


def test_a_sale_that_has_moved_is_followed_by_every_verb(
    shop: FlashSale, cluster: Cluster, new_sale_id: Callable[[], str]
) -> None:
    verbs: list[Callable[[Any], Any]] = [
        lambda sale: sale.hold("cyd", {"red": 1}, hold_id="h").unwrap(),
        lambda sale: sale.hold_many([HoldRequest("dan", {"red": 1}, "h")])[0].unwrap(),
        lambda sale: sale.confirm("cyd", "h").unwrap(),
        lambda sale: sale.refund("cyd", "h", lines={"red": 1}, op_id="r").unwrap(),
        lambda sale: sale.extend("dan", "h", deadline_ms=limits.TIME_MIN_MS).unwrap(),
        lambda sale: sale.release("dan", "h").unwrap(),
        lambda sale: sale.restock({"red": 1}, op_id="t").unwrap(),
        lambda sale: sale.find("cyd", "h"),
        lambda sale: sale.expire(),
        lambda sale: sale.ledger.read(),
        lambda sale: sale.pause(),
        lambda sale: sale.snapshot(),
        lambda sale: sale.audit(),
    ]
    sale = shop.open(Sale(new_sale_id(), [Sku("red", 20)]))
    for verb in verbs:
        move_on(cluster, sale)
        verb(sale)
    assert books_are_right(sale).skus["red"].allotment == 21


def test_a_new_sale_is_opened_where_its_slot_has_moved_to(
    shop: FlashSale, cluster: Cluster, new_sale_id: Callable[[], str]
) -> None:
    sale_id = new_sale_id()
    shop.sale(sale_id).hold("ann", {"red": 1}, hold_id="h")  # the client has its map by now
    move_on(cluster, shop.sale(sale_id))
    whole_life(shop, sale_id)


def test_a_client_given_with_an_old_map_finds_the_sale(
    cluster: Cluster, through: Callable[..., FlashSale], id_on: Callable[..., str], raw: Any
) -> None:
    sale_id = id_on(cluster, cluster.nodes[0])
    shop = through(lambda module: module.RedisCluster.from_url(cluster.url))
    move_on(cluster, shop.sale(sale_id))
    whole_life(shop, sale_id)
    assert raw.exists(ShardKeys.of(sale_id).sale)


def test_a_sale_that_comes_back_is_followed_back(sale: Any, cluster: Cluster) -> None:
    for number in range(6):
        move_on(cluster, sale)
        sale.hold(f"buyer-{number}", {"red": 1}, hold_id="h").unwrap()
    assert books_are_right(sale).skus["red"].held == 9


# --- moving -------------------------------------------------------------------------------


def test_a_sale_whose_keys_have_all_moved_is_served_before_the_move_ends(
    sale: Any, cluster: Cluster
) -> None:
    """The old node says ASK; the new one has every key, and takes the call only if asked so.

    (A verb one of whose keys does not exist has to wait: neither node knows where it belongs.)
    """
    with half_done(cluster, sale) as move:
        move.keys()
        cluster.flush_scripts(move.target)
        assert sale.find("ann", "h").state is HoldState.HELD
        assert sale.hold("cyd", {"red": 1}, hold_id="h").outcome is Outcome.HELD
        cluster.flush_scripts(move.target)
        assert sale.confirm("bob", "h").outcome is Outcome.CONFIRMED
        assert sale.release("cyd", "h").outcome is Outcome.RELEASED
        assert [a.outcome for a in sale.hold_many([HoldRequest("dan", {"red": 1}, "h")])] == [
            Outcome.HELD
        ]
        assert cluster.owner_of_slot(move.slot) is move.source
    view = books_are_right(sale)
    assert (view.skus["red"].sold, view.skus["red"].held) == (2, 2)
    kinds = kinds_of(sale)
    assert (kinds[EventKind.HELD], kinds[EventKind.CONFIRMED]) == (4, 1)


CALLS: dict[str, Callable[..., Any]] = {
    "hold": lambda sale, **o: sale.hold("cyd", {"red": 1}, hold_id="h", **o),
    "confirm": lambda sale, **o: sale.confirm("ann", "h", **o),
    "restock": lambda sale, **o: sale.restock({"red": 1}, op_id="t", **o),
    "snapshot": lambda sale, **o: sale.snapshot(**o),
}


@pytest.mark.parametrize("verb", CALLS)
def test_a_call_waits_for_a_move_that_ends_within_its_time(
    verb: str, sale: Any, cluster: Cluster
) -> None:
    """Some keys here, some there: both nodes say TRYAGAIN."""
    move = cluster.move(slot(sale), next_node(cluster, sale))
    move.keys(ShardKeys.of(sale.id).sale)
    with finishing_after(0.2, move):
        begun = time.monotonic()
        result = CALLS[verb](sale, timeout_ms=60_000)
        assert time.monotonic() - begun > 0.1
    assert result is not None
    books_are_right(sale)
    kinds = kinds_of(sale)
    assert kinds[EventKind.HELD] == 2 + (verb == "hold")
    assert kinds[EventKind.CONFIRMED] == (verb == "confirm")
    assert kinds[EventKind.RESTOCKED] == (verb == "restock")


@pytest.mark.parametrize("verb", CALLS)
def test_a_move_that_does_not_end_is_a_store_unavailable_and_nothing_is_written(
    verb: str, sale: Any, cluster: Cluster
) -> None:
    before = kinds_of(sale)
    with half_done(cluster, sale) as move:
        move.keys(ShardKeys.of(sale.id).sale)
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable, match="not applied"):
            CALLS[verb](sale, timeout_ms=150)
        assert 0.1 < time.monotonic() - begun < 0.15 + MARGIN_S
    assert kinds_of(sale) == before
    books_are_right(sale)
    assert CALLS[verb](sale) is not None


def test_a_bulk_call_during_a_move_answers_item_by_item(sale: Any, cluster: Cluster) -> None:
    requests = [HoldRequest(f"buyer-{n}", {"red": 1}, "h") for n in range(5)]
    with half_done(cluster, sale) as move:
        move.keys(ShardKeys.of(sale.id).sale)
        refused = sale.hold_many(requests, timeout_ms=150)
        assert [type(item) for item in refused] == [StoreUnavailable] * 5
        assert all(isinstance(item, StoreError) for item in refused)
    assert [answer.unwrap().replayed for answer in sale.hold_many(requests)] == [False] * 5
    assert books_are_right(sale).skus["red"].held == 8


def test_a_new_sale_opens_once_its_slot_has_moved(
    shop: FlashSale, cluster: Cluster, new_sale_id: Callable[[], str]
) -> None:
    sale = shop.sale(new_sale_id())
    move = cluster.move(slot(sale), next_node(cluster, sale))
    with finishing_after(0.3, move):
        shop.open(Sale(sale.id, [Sku("red", 5)]), timeout_ms=20_000)
    assert sale.hold("ann", {"red": 1}, hold_id="h").outcome is Outcome.HELD
    books_are_right(sale)


# --- under load ---------------------------------------------------------------------------


def by_keys(cluster: Cluster, sale: Any) -> None:
    move_on(cluster, sale)


def slowly(cluster: Cluster, sale: Any) -> None:
    """The sale is in two places for a while."""
    move = cluster.move(slot(sale), next_node(cluster, sale))
    move.keys(ShardKeys.of(sale.id).buyers)
    time.sleep(0.2)
    move.keys()
    time.sleep(0.2)
    move.finish()


def at_once(cluster: Cluster, sale: Any) -> None:
    cluster.migrate_at_once(slot(sale), next_node(cluster, sale))


def test_a_running_sale_moves_through_the_cluster_and_sells_every_unit_once(
    cluster: Cluster, new_sale_id: Callable[[], str]
) -> None:
    definition = Sale(new_sale_id(), [Sku("red", 150)], hold_ttl_ms=400)
    with FlashSale.from_url(cluster.url, timeout_ms=20_000) as shop:
        sale = shop.open(definition)
        with Crowd(
            sale.id,
            lambda: FlashSale.from_url(cluster.url, timeout_ms=1_000),
            lambda: AsyncFlashSale.from_url(cluster.url, timeout_ms=1_000),
        ) as crowd:
            crowd.wait_for(60)
            for move in (by_keys, slowly, at_once, slowly):
                move(cluster, sale)
                crowd.wait_for(60)
        crowd.was_told_the_truth(sale, definition)
        assert crowd.told(Outcome.CONFIRMED) > 50
        assert crowd.longest_s < 1 + MARGIN_S
        every_unit_is_sold(sale)
