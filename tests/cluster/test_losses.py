"""Nodes that are lost: without a replica their sales wait and the others go on; with one it
takes over, under load, and nothing is sold twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from redis.cluster import LoadBalancingStrategy

from cluster.conftest import sale_id_on
from cluster.crowd import Crowd
from faults.checks import MARGIN_S, books_are_right
from faults.test_race import every_unit_is_sold
from flashsale import (
    AsyncFlashSale,
    FlashSale,
    HoldState,
    Outcome,
    OutcomeUnknown,
    Sale,
    Sku,
    StoreUnavailable,
)
from flashsale.batching import IN_FLIGHT_MAX
from flashsale.embedded import EmbeddedServer
from flashsale.keys import ShardKeys
from support.cluster import PRIMARIES, Cluster, slot_of, within
from support.crowds import Ask, at_once, crowd, policy_of, until
from support.shells import SHELLS, connect

SHORT_MS = 200
"""How long a caller waits for a node that is not there."""

LONG_MS = 90_000
SOON_S = LONG_MS / 3000 / 2
"""Sooner than an attempt at a node that is not there would end: so none was made on the way."""


@pytest.fixture
def fragile(clusters: dict[str, Cluster]) -> Iterator[Cluster]:
    """No replicas; what was acknowledged is still there after a restart."""
    cluster = clusters["fragile"]
    yield cluster
    for node in cluster.nodes:
        cluster.set(node, "cluster-require-full-coverage", "no")
    cluster.wait_until_ok()


@pytest.fixture
def guarded(clusters: dict[str, Cluster]) -> Cluster:
    """Every primary has a replica, and the first three nodes are the primaries."""
    cluster = clusters["guarded"]
    cluster.wait_until_ok()
    for node in cluster.nodes[:PRIMARIES]:
        if cluster.info(node, "replication")["role"] != "master":
            cluster.promote(node)
    return cluster


class Selling:
    """A sale on every node, and a client of either shell that has ordered in each."""

    def __init__(self, cluster: Cluster, closing: ExitStack) -> None:
        self.cluster = cluster
        self.ids = [sale_id_on(cluster, node) for node in cluster.nodes]
        self.shops = [closing.enter_context(connect(shell, cluster.url)) for shell in SHELLS]
        self._number = 0
        for sale_id in self.ids:
            self.shops[0].open(Sale(sale_id, [Sku("red", 1_000)]))
        for shop in self.shops:
            for sale_id in self.ids:
                assert self.order(shop, sale_id).outcome is Outcome.HELD

    def order(self, shop: FlashSale, sale_id: str, **options: Any) -> Any:
        """A new buyer's hold."""
        self._number += 1
        return shop.sale(sale_id).hold(f"b-{self._number}", {"red": 1}, hold_id="h", **options)

    def is_refused(self, place: int, kinds: Any, pattern: str) -> None:
        """Orders in that sale end in time; those said not to be applied are not."""
        for shop in self.shops:
            begun = time.monotonic()
            with pytest.raises(kinds, match=pattern):
                self.order(shop, self.ids[place], timeout_ms=SHORT_MS)
            assert time.monotonic() - begun < SHORT_MS / 1000 + MARGIN_S

    def goes_on(self, *places: int) -> None:
        """Orders in these sales are answered as usual, each within its own time."""
        for shop in self.shops:
            for _ in range(3):
                for place in places:
                    answer = self.order(shop, self.ids[place], timeout_ms=6_000)
                    assert answer.outcome is Outcome.HELD

    @contextmanager
    def waiting(self, place: int) -> Iterator[None]:
        """Orders in that sale are asked for now and answered before the end."""
        with ThreadPoolExecutor(len(self.shops)) as pool:
            orders = [
                pool.submit(self.order, shop, self.ids[place], timeout_ms=30_000)
                for shop in self.shops
            ]
            time.sleep(0.2)
            assert not any(order.done() for order in orders)
            yield
            assert [order.result().outcome for order in orders] == [Outcome.HELD] * 2

    def books_are_right(self) -> None:
        for sale_id in self.ids:
            books_are_right(self.shops[0].sale(sale_id))


@pytest.fixture
def selling(fragile: Cluster) -> Iterator[Selling]:
    with ExitStack() as closing:
        yield Selling(fragile, closing)


def test_a_lost_primary_stops_its_own_sales_until_it_is_back(
    selling: Selling, fragile: Cluster
) -> None:
    """And all of them, if that is how the cluster is set up."""
    lost, *others = fragile.nodes
    with fragile.killed(lost) as restart:
        selling.is_refused(0, (StoreUnavailable, OutcomeUnknown), "within 200 ms")
        selling.goes_on(1, 2)
        want_all_slots(fragile, others, "yes")
        selling.is_refused(1, StoreUnavailable, "CLUSTERDOWN|cluster is down")
        with selling.waiting(2):
            want_all_slots(fragile, others, "no")
        selling.goes_on(1, 2)
        with selling.waiting(0):
            restart()
    selling.goes_on(0, 1, 2)
    selling.books_are_right()


def want_all_slots(cluster: Cluster, nodes: list[EmbeddedServer], wanted: str) -> None:
    """Let these nodes stop, or go on, while one is lost."""
    for node in nodes:
        cluster.set(node, "cluster-require-full-coverage", wanted)
        cluster.ask(node, "CLUSTER", "SETSLOT", 0, "STABLE")  # it judges its state anew
    state = "fail" if wanted == "yes" else "ok"
    for node in nodes:
        within(90, lambda n=node: cluster.info(n, "cluster info")["cluster_state"] == state, state)


def test_a_slot_that_no_node_serves_is_waited_for(selling: Selling, fragile: Cluster) -> None:
    slot = slot_of(ShardKeys.of(selling.ids[1]).sale)
    node = fragile.nodes[1]
    fragile.ask(node, "CLUSTER", "DELSLOTS", slot)
    selling.is_refused(1, StoreUnavailable, "(?i)not served|served by no node|clusterdown")
    selling.goes_on(0, 2)
    with selling.waiting(1):
        fragile.ask(node, "CLUSTER", "ADDSLOTS", slot)
    selling.goes_on(0, 1, 2)
    fragile.wait_until_ok()
    selling.books_are_right()


def test_a_frozen_primary_stops_its_own_sales_until_it_thaws(
    selling: Selling, fragile: Cluster
) -> None:
    with fragile.frozen(fragile.nodes[0]) as thaw:
        selling.is_refused(0, (StoreUnavailable, OutcomeUnknown), "within 200 ms")
        selling.goes_on(1, 2)
        for other in fragile.nodes[1:]:  # now the map is wanted, and the frozen one is known first
            fragile.ask(other, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        selling.goes_on(1, 2)
        with selling.waiting(0):
            thaw()
    fragile.wait_until_ok()
    selling.goes_on(0, 1, 2)
    selling.books_are_right()


def test_a_frozen_node_with_many_sales_holds_up_none_of_the_others(
    fragile: Cluster, connect: Callable[..., FlashSale]
) -> None:
    """More batches wait for it than a server is sent at a time; also while the map is asked for."""
    frozen, *others = fragile.nodes
    shop = connect(fragile.url, timeout_ms=20_000)
    lost = [sale_id_on(fragile, frozen) for _ in range(2 * IN_FLIGHT_MAX)]
    alive = [sale_id_on(fragile, node) for node in others]
    for sale_id in [*lost, *alive]:
        shop.open(Sale(sale_id, [Sku("red", 1_000_000)]))

    def holding(sale_id: str, buyer: str, **options: Any) -> Ask:
        return lambda shop: shop.sale(sale_id).hold(buyer, {"red": 1}, hold_id="h", **options)

    waiting = [holding(sale_id, "ann", timeout_ms=LONG_MS) for sale_id in lost]
    with fragile.frozen(frozen) as thaw, crowd(shop, waiting) as ends:
        until(lambda: len(policy_of(shop).flying) >= IN_FLIGHT_MAX, shop)
        for number in range(50):
            begun = time.monotonic()
            asked = [holding(sale_id, f"b-{number}", timeout_ms=LONG_MS) for sale_id in alive]
            answers = at_once(shop, asked)
            took = time.monotonic() - begun
            assert {getattr(answer, "outcome", answer) for answer in answers} == {Outcome.HELD}
            assert took < SOON_S, number
            time.sleep(0.05)
        thaw()
        assert {getattr(end, "outcome", end) for end in ends()} == {Outcome.HELD}
    fragile.wait_until_ok()
    for answer in at_once(shop, [holding(sale_id, "ann") for sale_id in lost]):
        assert getattr(answer, "outcome", answer) is Outcome.HELD
    for sale_id in [*lost, *alive]:
        books_are_right(shop.sale(sale_id))


# --- with replicas ------------------------------------------------------------------------


def crowd_in(cluster: Cluster, sale: Any) -> Crowd:
    """Callers who know the cluster by the node that will be lost."""
    return Crowd(
        sale.id,
        lambda: FlashSale.from_url(cluster.url, timeout_ms=1_000),
        lambda: AsyncFlashSale.from_url(cluster.url, timeout_ms=1_000),
    )


@pytest.fixture
def operator(guarded: Cluster) -> Iterator[FlashSale]:
    """It knows the cluster by a node that stays."""
    with FlashSale.from_url(guarded.nodes[2].url, timeout_ms=20_000) as shop:
        yield shop


def test_what_was_acknowledged_and_replicated_survives_the_primarys_loss_under_load(
    guarded: Cluster, operator: FlashSale
) -> None:
    lost = guarded.nodes[0]
    definition = Sale(sale_id_on(guarded, lost), [Sku("red", 20_000)])
    elsewhere = Sale(sale_id_on(guarded, guarded.nodes[1]), [Sku("red", 20_000)])
    sale, other = operator.open(definition), operator.open(elsewhere)
    with crowd_in(guarded, sale) as crowd, crowd_in(guarded, other) as calm:
        crowd.wait_for(60)
        with guarded.killed(lost, in_sync=True):
            before = len(calm.notes)
            guarded.wait_for_failover(lost)
            assert len(calm.notes) > before + 30
            crowd.wait_for(60)
        guarded.promote(lost)
        crowd.wait_for(60)
    assert crowd.errors
    assert crowd.longest_s < 1 + MARGIN_S
    crowd.was_told_the_truth(sale, definition)
    assert calm.errors == []
    calm.was_told_the_truth(other, elsewhere)


def test_a_failover_that_forgets_the_last_writes_oversells_nothing(
    guarded: Cluster, operator: FlashSale
) -> None:
    lost = guarded.nodes[0]
    definition = Sale(sale_id_on(guarded, lost), [Sku("red", 120)], hold_ttl_ms=500)
    sale = operator.open(definition)
    with crowd_in(guarded, sale) as crowd:
        crowd.wait_for(60)
        with guarded.frozen(lost):
            guarded.wait_for_failover(lost)
            crowd.wait_for(60)
        guarded.wait_until_ok()
        crowd.wait_for(60)
    assert crowd.longest_s < 1 + MARGIN_S
    assert books_are_right(sale).skus["red"].sold <= 120
    every_unit_is_sold(sale)


def test_reads_are_the_primarys_even_through_a_client_that_would_read_from_replicas(
    guarded: Cluster, through: Callable[..., FlashSale]
) -> None:
    reading = {"load_balancing_strategy": LoadBalancingStrategy.ROUND_ROBIN_REPLICAS}
    shop = through(lambda module: module.RedisCluster.from_url(guarded.url, **reading))
    for node in guarded.nodes[:3]:
        sale = shop.open(Sale(sale_id_on(guarded, node), [Sku("red", 50)]))
        for number in range(20):
            sale.hold(f"b-{number}", {"red": 1}, hold_id="h").unwrap()
            sale.confirm(f"b-{number}", "h").unwrap()
            assert sale.find(f"b-{number}", "h").state is HoldState.CONFIRMED
            assert sale.snapshot().skus["red"].sold == number + 1


@pytest.mark.parametrize("shell", SHELLS)
def test_a_replicas_url_leads_to_the_cluster(shell: str, guarded: Cluster) -> None:
    replica = guarded.nodes[4]
    with connect(shell, replica.url) as shop:
        for node in guarded.nodes[:3]:
            sale = shop.open(Sale(sale_id_on(guarded, node), [Sku("red", 5)]))
            assert sale.hold("ann", {"red": 1}, hold_id="h").outcome is Outcome.HELD
