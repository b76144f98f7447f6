"""The race of killed callers and lost replies, as on one server: see `faults.test_race`.

The nodes announce proxies in their place, so every client's way to them leads through one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis.cluster import RedisCluster

from faults import test_race
from flashsale import FlashSale
from flashsale.embedded import EmbeddedServer
from flashsale.keys import ShardKeys
from support.cluster import HOST, Cluster, slot_of, within
from support.proxy import FaultProxy

SALES = ("race", "left")
"""The sales of these tests: one node decides both."""


class Announced:
    """A cluster behind proxies; `proxy` is the one before the node that decides the sales."""

    def __init__(self, cluster: Cluster, closing: ExitStack) -> None:
        self.cluster = cluster
        self._proxies = {n: closing.enter_context(FaultProxy(n.port)) for n in cluster.nodes}
        for node, proxy in self._proxies.items():
            cluster.set(node, "cluster-announce-port", proxy.port)
        within(20, self._all_know, "the announced ports are not known")
        slots = [slot_of(ShardKeys.of(sale).sale) for sale in SALES]
        self.node = cluster.owner_of_slot(slots[0])
        cluster.move_slot(slots[1], self.node)
        self.proxy = self._proxies[self.node]

    def _all_know(self) -> bool:
        ports = {proxy.port for proxy in self._proxies.values()}
        slots = [self.cluster.ask(node, "CLUSTER", "SLOTS") for node in self.cluster.nodes]
        return all({primary[1] for _, _, primary in ranges} == ports for ranges in slots)

    def around(self, address: tuple[str, int]) -> tuple[str, int]:
        """The node's own address in place of its proxy's."""
        return HOST, next(n.port for n, p in self._proxies.items() if p.port == address[1])


@pytest.fixture(scope="module")
def announced() -> Iterator[Announced]:
    with Cluster.start() as cluster, ExitStack() as closing:
        yield Announced(cluster, closing)


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
