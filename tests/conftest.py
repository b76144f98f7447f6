"""The server, both shells, fresh sales, and a check that no test leaves a key behind."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import hypothesis
import pytest
import redis

from flashsale import FlashSale
from flashsale.embedded import EmbeddedServer
from support.cluster import Cluster, client_for
from support.cues import KEY
from support.lab import Lab
from support.shells import SHELLS, connect

URL_VARIABLE = "FLASHSALE_TEST_URL"

# How long an example takes is decided by whatever else the machine does.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

_KEY = re.compile(r"flashsale(?:-sealed)?:\{([^{}#]+)#0\}:[a-z]+(:[^{}#:]+(:[a-z]+)?)?")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long",
        action="store_true",
        help="many more examples of the property tests, and every line where a stride is tried",
    )
    parser.addoption(
        "--cluster", action="store_true", help="run what needs a server on a cluster of three"
    )


@pytest.fixture(scope="session")
def server_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The server of the tests that do it no harm: FLASHSALE_TEST_URL, or an embedded one.

    It may be any node of a cluster.
    """
    if url := os.environ.get(URL_VARIABLE):
        yield url
        return
    if request.config.getoption("--cluster"):
        with Cluster.start() as cluster:
            yield cluster.url
        return
    with EmbeddedServer.start() as server:
        yield server.url


@pytest.fixture(scope="session")
def raw(server_url: str) -> Iterator[redis.Redis]:
    """A plain client: it looks behind the library and corrupts what tests want corrupted."""
    with client_for(server_url) as client:
        yield client


@pytest.fixture(scope="session")
def _shops(server_url: str) -> Iterator[dict[str, FlashSale]]:
    with ExitStack() as stack:
        yield {
            shell: stack.enter_context(connect(shell, server_url, keys=[KEY])) for shell in SHELLS
        }


@pytest.fixture(params=SHELLS)
def shop(request: pytest.FixtureRequest, _shops: dict[str, FlashSale]) -> FlashSale:
    """Either shell; the asynchronous one is driven by the same calls."""
    return _shops[request.param]


@pytest.fixture
def _sale_ids() -> list[str]:
    return []


@pytest.fixture
def new_sale_id(_sale_ids: list[str]) -> Callable[[], str]:
    """Makes ids of sales that this test may open."""

    def make() -> str:
        _sale_ids.append(f"test-{uuid.uuid4().hex}")
        return _sale_ids[-1]

    return make


@pytest.fixture
def sale_id(new_sale_id: Callable[[], str]) -> str:
    """An id that no sale has had."""
    return new_sale_id()


@pytest.fixture
def lab(shop: FlashSale, raw: redis.Redis, new_sale_id: Callable[[], str]) -> Lab:
    """Opens sales through either shell, and holds their time."""
    return Lab(shop, raw, new_sale_id)


@pytest.fixture(autouse=True)
def _no_key_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test leaves on the server is a key of a sale whose id it was given."""
    if "server_url" not in request.fixturenames:
        yield
        return
    client: redis.Redis = request.getfixturevalue("raw")
    ids: list[str] = request.getfixturevalue("_sale_ids")
    before = set(client.scan_iter(count=1_000))
    yield
    left = set(client.scan_iter(count=1_000)) - before
    if left:
        client.delete(*left)
    names = [_KEY.fullmatch(key.decode()) for key in left]
    leaked = [key for key, name in zip(left, names, strict=True) if not name or name[1] not in ids]
    assert not leaked, f"keys that no sale of this test owns: {sorted(leaked)}"
