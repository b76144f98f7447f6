"""The race of killed callers and lost replies, as on one server: see `faults.test_race`.

The nodes announce proxies in their place, so every client's way to them leads through one.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from redis.cluster import RedisCluster

from faults import test_race
from flashsale import FlashSale, Outcome, Sale, Sku
from flashsale.embedded import EmbeddedServer
from flashsale.keys import ShardKeys
from support.cluster import HOST, Cluster, slot_of, within
from support.proxy import FaultProxy
from support.shells import Blocking

SALES = ("race", "left")
"""The sales of these tests: one node decides both."""


class Announced:
    """A cluster behind proxies; `proxy` is the one before the node that decides the sales."""

    def __init__(self, cluster: Cluster, closing: ExitStack) -> None:
        self.cluster = cluster
        self.proxies = {n: closing.enter_context(FaultProxy(n.port)) for n in cluster.nodes}
        self.announce({node: proxy.port for node, proxy in self.proxies.items()})
        slots = [slot_of(ShardKeys.of(sale).sale) for sale in SALES]
        self.node = cluster.owner_of_slot(slots[0])
        cluster.move_slot(slots[1], self.node)
        self.proxy = self.proxies[self.node]

    def announce(self, ports: dict[EmbeddedServer, int]) -> None:
        """Let the nodes be known by these ports; returns when all of them are."""
        for node, port in ports.items():
            self.cluster.set(node, "cluster-announce-port", port)
        within(90, lambda: self._all_know(set(ports.values())), "the ports are not known")

    def _all_know(self, ports: set[int]) -> bool:
        slots = [self.cluster.ask(node, "CLUSTER", "SLOTS") for node in self.cluster.nodes]
        return all({primary[1] for _, _, primary in ranges} == ports for ranges in slots)

    def around(self, address: tuple[str, int]) -> tuple[str, int]:
        """The node's own address in place of its proxy's."""
        return HOST, next(n.port for n, p in self.proxies.items() if p.port == address[1])


@pytest.fixture(scope="module")
def announced(clusters: dict[str, Cluster]) -> Iterator[Announced]:
    with ExitStack() as closing:
        yield Announced(clusters["behind proxies"], closing)


@pytest.fixture
def own_server(announced: Announced) -> EmbeddedServer:
    return announced.node


@pytest.fixture
def proxy(announced: Announced) -> Iterator[FaultProxy]:
    yield announced.proxy
    announced.proxy.pass_through()


@pytest.fixture
def operator(announced: Announced) -> Iterator[FlashSale]:
    """It prepares and looks, past the proxies."""
    with (
        RedisCluster.from_url(announced.proxy.url, address_remap=announced.around) as client,
        FlashSale(client, timeout_ms=20_000) as shop,
    ):
        yield shop


@pytest.mark.timeout(600)
def test_callers_killed_and_replies_lost_never_oversell_nor_lose_an_order(
    own_server: EmbeddedServer,
    proxy: FaultProxy,
    operator: FlashSale,
    tmp_path: Path,
    long: bool,
) -> None:
    test_race.test_callers_killed_and_replies_lost_never_oversell_nor_lose_an_order(
        ("red", "blue"), own_server, proxy, operator, tmp_path, long
    )


def test_the_hold_of_a_caller_killed_after_the_commit_is_found_again_by_its_id(
    announced: Announced,
    proxy: FaultProxy,
    operator: FlashSale,
    connect: Callable[..., FlashSale],
) -> None:
    announced.cluster.ask(announced.node, "FLUSHALL")
    announced.cluster.flush_scripts(announced.node)
    test_race.test_the_hold_of_a_caller_killed_after_the_commit_is_found_again_by_its_id(
        proxy, operator, connect
    )


def nodes_of(shop: Any) -> set[tuple[str, int] | None]:
    """The servers that a client keeps connections to."""
    client = shop._target if isinstance(shop, Blocking) else shop
    return set(client._connections._nodes)


def test_a_client_whose_nodes_all_have_new_addresses_goes_back_to_the_url_it_was_given(
    announced: Announced, connect: Callable[..., FlashSale]
) -> None:
    name = f"house-{uuid.uuid4().hex}"
    shop = connect(announced.node.url)
    sale = shop.open(Sale(name, [Sku("red", 5)]))  # through the proxies
    proxies = announced.proxies
    try:
        announced.announce({node: node.port for node in proxies})
        for proxy in proxies.values():
            proxy.refuse_connections()
            proxy.cut()
        assert sale.hold("ann", {"red": 1}, hold_id="h").outcome is Outcome.HELD
        kept = {address[1] for address in nodes_of(shop) if address is not None}
        assert kept.isdisjoint(proxy.port for proxy in proxies.values()), "they are kept for ever"
    finally:
        for proxy in proxies.values():
            proxy.pass_through()
        announced.announce({node: proxy.port for node, proxy in proxies.items()})
