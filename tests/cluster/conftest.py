"""Clusters, clients for them, and sales on the node that a test wants."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from faults.conftest import connect, long  # noqa: F401 - fixtures of this folder, too
from flashsale import FlashSale
from flashsale.embedded import EmbeddedServer
from flashsale.keys import ShardKeys
from support import shells
from support.cluster import Cluster, client_for
from support.cues import KEY
from support.shells import SHELLS

KINDS: dict[str, dict[str, Any]] = {
    "calm": {},
    "fragile": {"durability": "fsync"},
    "guarded": {"replicas": 1},
    "behind proxies": {},
}


@pytest.fixture(scope="session")
def clusters() -> Iterator[dict[str, Cluster]]:
    """All of them started together: what takes two seconds is that a new cluster waits."""
    with ExitStack() as stack, ThreadPoolExecutor(len(KINDS)) as pool:
        starting = {name: pool.submit(Cluster.start, **how) for name, how in KINDS.items()}
        for future in starting.values():
            future.add_done_callback(lambda f: f.exception() or stack.callback(f.result().stop))
        yield {name: future.result() for name, future in starting.items()}


@pytest.fixture(scope="session")
def cluster(clusters: dict[str, Cluster]) -> Cluster:
    """Three primaries that every test leaves as healthy as they were."""
    return clusters["calm"]


@pytest.fixture(scope="session")
def server_url(cluster: Cluster) -> str:
    """What the tests of one server are given here."""
    return cluster.url


# A fixture of a session is made once: these two need a place of their own for this folder.


@pytest.fixture(scope="session")
def raw(server_url: str) -> Iterator[Any]:
    """A plain client that looks behind the library on every node."""
    with client_for(server_url) as client:
        yield client


@pytest.fixture(scope="session")
def _shops(server_url: str) -> Iterator[dict[str, FlashSale]]:
    with ExitStack() as stack:
        yield {
            shell: stack.enter_context(shells.connect(shell, server_url, keys=[KEY]))
            for shell in SHELLS
        }


@pytest.fixture(params=SHELLS)
def through(request: pytest.FixtureRequest) -> Iterator[Callable[..., FlashSale]]:
    """Makes clients through a client of the user's own: see `connect_through`."""
    with ExitStack() as stack:

        def make(make_client: Callable[[Any], Any], **options: Any) -> FlashSale:
            return stack.enter_context(
                shells.connect_through(request.param, make_client, **options)
            )

        yield make


@pytest.fixture
def id_on(new_sale_id: Callable[[], str]) -> Callable[[Cluster, EmbeddedServer], str]:
    """Makes ids of sales whose slot that node owns."""
    return lambda cluster, node: sale_id_on(cluster, node, new_sale_id)


def sale_id_on(
    cluster: Cluster, node: EmbeddedServer, new_id: Callable[[], str] | None = None
) -> str:
    """An id that no sale has had, of a sale that would live on that node."""
    make = new_id or (lambda: f"test-{uuid.uuid4().hex}")
    ids = (make() for _ in range(1_000))
    return next(found for found in ids if cluster.owner_of(ShardKeys.of(found).sale) is node)
