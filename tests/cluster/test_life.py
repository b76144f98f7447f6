"""A cluster is used like one server: every verb, every shell, any node, many sales at once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from faults.checks import books_are_right, kinds_of
from flashsale import (
    AsyncFlashSale,
    ConfigurationError,
    EventKind,
    FlashSale,
    HoldRequest,
    HoldState,
    Outcome,
    Rejected,
    Sale,
    SaleState,
    Sku,
)
from flashsale.keys import ShardKeys
from flashsale.scripts import load_script, script_names
from support.cluster import PRIMARIES, Cluster

NODES = range(PRIMARIES)


def whole_life(shop: Any, sale_id: str) -> None:
    """Every verb of a sale, from its opening to its purge, and the answer of each."""
    sale = shop.open(Sale(sale_id, [Sku("red", 20, limit=9), Sku("blue", 20)], hold_ttl_ms=60_000))
    ann = sale.hold("ann", {"red": 2, "blue": 1}, hold_id="h", channel="app", note="19.90")
    assert ann.outcome is Outcome.HELD
    assert sale.hold("ann", {"red": 2, "blue": 1}, hold_id="h").replayed
    assert sale.extend(ann, deadline_ms=ann.deadline_ms + 1_000).outcome is Outcome.EXTENDED
    assert sale.confirm("ann", "h", lines={"red": 2}).outcome is Outcome.CONFIRMED
    refund = sale.refund(ann.ref, lines={"red": 1}, op_id="r")
    assert refund.outcome is Outcome.REFUNDED
    requests = [HoldRequest(f"buyer-{n}", {"red": 1}, "h") for n in range(6)]
    many = sale.hold_many(requests)
    assert [answer.outcome for answer in many] == [Outcome.HELD] * 6
    assert {a.outcome for a in sale.confirm_many(many[:3])} == {Outcome.CONFIRMED}
    assert {a.outcome for a in sale.release_many(many[3:5])} == {Outcome.RELEASED}
    assert sale.release("buyer-5", "h").outcome is Outcome.RELEASED
    assert sale.restock({"blue": 5}, op_id="t").outcome is Outcome.RESTOCKED
    assert sale.pause().outcome is Outcome.PAUSED
    assert sale.hold("bob", {"red": 1}, hold_id="h").outcome is Outcome.PAUSED
    sale.resume().unwrap()
    assert sale.find("ann", "h").state is HoldState.CONFIRMED
    assert [hold.hold_id for hold in sale.holds_of("buyer-0")] == ["h"]
    assert sale.expire() == 0
    sale.ledger.register("reader")
    sale.ledger.ack("reader", 3)
    sale.ledger.trim()
    view = books_are_right(sale)
    assert (view.skus["red"].sold, view.skus["blue"].available) == (4, 25)
    sale.ledger.forget("reader")
    sale.end()
    assert sale.snapshot().state is SaleState.ENDED
    sale.purge()
    with pytest.raises(Rejected):
        sale.snapshot()


@pytest.mark.parametrize("given", NODES)
@pytest.mark.parametrize("owner", NODES)
def test_any_nodes_url_leads_to_every_nodes_sales(
    given: int,
    owner: int,
    cluster: Cluster,
    raw: Any,
    connect: Callable[..., FlashSale],
    id_on: Callable[..., str],
) -> None:
    sale_id = id_on(cluster, cluster.nodes[owner])
    whole_life(connect(cluster.nodes[given].url), sale_id)
    assert raw.exists(ShardKeys.of(sale_id).sale)


@pytest.mark.parametrize("owner", NODES)
def test_redis_pys_cluster_clients_serve_either_shell(
    owner: int,
    cluster: Cluster,
    through: Callable[..., FlashSale],
    id_on: Callable[..., str],
    raw: Any,
) -> None:
    shop = through(lambda module: module.RedisCluster.from_url(cluster.url))
    sale_id = id_on(cluster, cluster.nodes[owner])
    whole_life(shop, sale_id)
    assert raw.exists(ShardKeys.of(sale_id).sale)


def test_a_cluster_client_of_the_other_shell_is_refused(cluster: Cluster) -> None:
    with (
        redis.RedisCluster.from_url(cluster.url) as client,
        pytest.raises(ConfigurationError, match="client"),
    ):
        AsyncFlashSale(client)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="client"):
        FlashSale(redis.asyncio.RedisCluster.from_url(cluster.url))  # type: ignore[arg-type]


def test_many_sales_are_spread_over_all_nodes_and_none_disturbs_another(
    cluster: Cluster, new_sale_id: Callable[[], str]
) -> None:
    ids = [new_sale_id() for _ in range(24)]
    with FlashSale.from_url(cluster.url, timeout_ms=20_000) as shop:

        def sell(sale_id: str) -> int:
            sale = shop.open(Sale(sale_id, [Sku("red", 10)]))
            orders = [sale.hold(f"buyer-{n}", {"red": 1}, hold_id="h") for n in range(12)]
            assert [answer.outcome for answer in orders[10:]] == [Outcome.SOLD_OUT] * 2
            for answer in orders[:10]:
                sale.confirm(answer).unwrap()
            return books_are_right(sale).skus["red"].sold

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(sell, ids)) == [10] * 24
    owners = Counter(cluster.owner_of(ShardKeys.of(sale_id).sale).port for sale_id in ids)
    assert len(owners) == PRIMARIES


async def test_tasks_order_in_many_sales_at_once(
    cluster: Cluster, new_sale_id: Callable[[], str]
) -> None:
    ids = [new_sale_id() for _ in range(24)]
    async with AsyncFlashSale.from_url(cluster.url, timeout_ms=20_000) as shop:

        async def order(sale_id: str, buyer: str) -> Outcome:
            answer = await shop.sale(sale_id).hold(buyer, {"red": 1}, hold_id="h")
            if answer.outcome is Outcome.HELD:
                answer = await shop.sale(sale_id).confirm(answer)
            assert (answer.sale, answer.buyer) == (sale_id, buyer)
            return answer.outcome

        for sale_id in ids:
            await shop.open(Sale(sale_id, [Sku("red", 10)]))
        orders = [order(sale_id, f"buyer-{n}") for n in range(12) for sale_id in ids]
        outcomes = Counter(await asyncio.gather(*orders))
    assert outcomes == {Outcome.CONFIRMED: 240, Outcome.SOLD_OUT: 48}
    with FlashSale.from_url(cluster.url) as looking:
        for sale_id in ids:
            assert books_are_right(looking.sale(sale_id)).skus["red"].sold == 10


def test_bulk_calls_keep_their_order_on_every_node(
    shop: FlashSale, cluster: Cluster, id_on: Callable[..., str]
) -> None:
    for node in cluster.nodes:
        sale = shop.open(Sale(id_on(cluster, node), [Sku("red", 500)]))
        requests = [HoldRequest(f"buyer-{n}", {"red": 1}, "h") for n in range(600)]
        answers = sale.hold_many(requests, timeout_ms=20_000)
        assert [answer.buyer for answer in answers] == [request.buyer for request in requests]
        outcomes = Counter(answer.outcome for answer in answers)
        assert outcomes == {Outcome.HELD: 500, Outcome.SOLD_OUT: 100}
        for answer in answers[::50]:
            found = sale.find(answer.buyer, "h")
            assert (found is not None) == (answer.outcome is Outcome.HELD)
        assert books_are_right(sale).skus["red"].held == 500


def test_holds_expire_on_every_node(
    shop: FlashSale, cluster: Cluster, id_on: Callable[..., str]
) -> None:
    sales = []
    for node in cluster.nodes:
        sales.append(shop.open(Sale(id_on(cluster, node), [Sku("red", 3)], hold_ttl_ms=30)))
        sales[-1].hold("ann", {"red": 3}, hold_id="h").unwrap()
    time.sleep(0.05)
    for sale in sales:
        assert sale.hold("bob", {"red": 1}, hold_id="h").outcome is Outcome.HELD
        assert kinds_of(sale)[EventKind.EXPIRED] == 1
        books_are_right(sale)


# --- scripts ------------------------------------------------------------------------------


@pytest.mark.parametrize("forgetful", NODES)
def test_a_node_that_knows_no_script_is_taught_without_the_caller_noticing(
    forgetful: int,
    cluster: Cluster,
    connect: Callable[..., FlashSale],
    id_on: Callable[..., str],
) -> None:
    for name in script_names():
        for node in cluster.nodes:
            cluster.ask(node, "SCRIPT", "LOAD", load_script(name).source)
    node = cluster.nodes[forgetful]
    cluster.flush_scripts(node)
    shop = connect(cluster.url)
    for owner in cluster.nodes:
        whole_life(shop, id_on(cluster, owner))
    assert cluster.ask(node, "SCRIPT", "EXISTS", load_script("inventory/hold").sha) == [1]


def test_scripts_forgotten_again_and_again_in_mid_run_lose_no_order(
    shop: FlashSale, cluster: Cluster, id_on: Callable[..., str]
) -> None:
    for node in cluster.nodes:
        sale = shop.open(Sale(id_on(cluster, node), [Sku("red", 100)]))
        for number in range(30):
            if number % 3 == 0:
                cluster.flush_scripts(node)
            sale.hold(f"buyer-{number}", {"red": 1}, hold_id="h").unwrap()
            if number % 5 == 0:
                cluster.flush_scripts(node)
            sale.confirm(f"buyer-{number}", "h").unwrap()
        assert books_are_right(sale).skus["red"].sold == 30
        kinds = kinds_of(sale)
        assert (kinds[EventKind.HELD], kinds[EventKind.CONFIRMED]) == (30, 30)


# --- what the nodes must be ---------------------------------------------------------------


def test_a_node_that_may_evict_orders_is_refused_before_anything_is_written(
    cluster: Cluster,
    raw: Any,
    connect: Callable[..., FlashSale],
    id_on: Callable[..., str],
) -> None:
    wrong = cluster.nodes[1]
    sale_id = id_on(cluster, wrong)
    shop = connect(cluster.nodes[0].url)
    try:
        cluster.set(wrong, "maxmemory-policy", "allkeys-lru")
        cluster.set(wrong, "maxmemory", "500mb")
        with pytest.raises(ConfigurationError, match="maxmemory-policy is allkeys-lru"):
            shop.open(Sale(sale_id, [Sku("red", 5)]))
        assert not raw.exists(ShardKeys.of(sale_id).sale)
    finally:
        cluster.set(wrong, "maxmemory", "0")
        cluster.set(wrong, "maxmemory-policy", "noeviction")
    sale = shop.open(Sale(sale_id, [Sku("red", 5)]))
    assert sale.hold("ann", {"red": 1}, hold_id="h").outcome is Outcome.HELD


def test_every_node_must_keep_what_fsync_promises(
    cluster: Cluster, connect: Callable[..., FlashSale], id_on: Callable[..., str], raw: Any
) -> None:
    shop = connect(cluster.url, durability="fsync")
    unsafe = id_on(cluster, cluster.nodes[2])
    try:
        for node in cluster.nodes:
            with pytest.raises(ConfigurationError, match="appendonly no"):
                shop.open(Sale(unsafe, [Sku("red", 5)]))
            cluster.set(node, "appendfsync", "always")
            cluster.set(node, "appendonly", "yes")
        assert not raw.exists(ShardKeys.of(unsafe).sale)
        whole_life(shop, unsafe)
    finally:
        for node in cluster.nodes:
            cluster.set(node, "appendonly", "no")
            cluster.set(node, "appendfsync", "everysec")


def test_a_database_that_the_cluster_does_not_have_is_refused(
    cluster: Cluster, connect: Callable[..., FlashSale]
) -> None:
    with pytest.raises(ConfigurationError):
        connect(f"{cluster.url}/1", timeout_ms=500).open(Sale("nowhere", [Sku("red", 1)]))


PERMISSIONS = (
    "+info +evalsha +eval +time +exists +unlink +hget +hgetall +hmget +hset +hdel +hlen +hscan "
    "+hvals +xadd +xrange +xtrim +zadd +zcard +zrangebyscore +zrem"
)
"""What the README asks of one server."""

ON_A_CLUSTER = "+cluster|slots +asking"
"""In addition, to find one's way."""


@pytest.fixture
def login(cluster: Cluster) -> Iterator[Callable[[str], str]]:
    """Makes a user with these permissions, on every node; a URL to connect with."""

    def make(permissions: str) -> str:
        command = (
            "SETUSER",
            "orders",
            "reset",
            "on",
            ">secret",
            "~flashsale:*",
            "~flashsale-sealed:*",
        )
        for node in cluster.nodes:
            cluster.ask(node, "ACL", *command, *permissions.split())
        return f"redis://orders:secret@127.0.0.1:{cluster.nodes[2].port}"

    yield make
    for node in cluster.nodes:
        cluster.ask(node, "ACL", "DELUSER", "orders")


def test_a_user_with_the_least_permissions_finds_every_node(
    cluster: Cluster,
    login: Callable[[str], str],
    connect: Callable[..., FlashSale],
    id_on: Callable[..., str],
) -> None:
    shop = connect(login(f"{PERMISSIONS} {ON_A_CLUSTER}"))
    for node in cluster.nodes:
        whole_life(shop, id_on(cluster, node))


def test_a_user_who_may_not_see_the_map_is_told_so(
    login: Callable[[str], str], connect: Callable[..., FlashSale], new_sale_id: Callable[[], str]
) -> None:
    shop = connect(login(PERMISSIONS))
    with pytest.raises(ConfigurationError, match=r"(?i)no permissions.*cluster\|slots"):
        shop.open(Sale(new_sale_id(), [Sku("red", 5)]))
