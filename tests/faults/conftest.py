"""Servers, clients and proxies for the fault tests; all of them are closed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from flashsale import FlashSale
from flashsale.embedded import EmbeddedServer
from flashsale.scripts import load_script, script_names
from support import shells
from support.proxy import FaultProxy
from support.shells import SHELLS


@pytest.fixture
def own_server() -> Iterator[EmbeddedServer]:
    """A server that the test may freeze, fill, reconfigure and kill."""
    with EmbeddedServer.start() as server:
        yield server


@pytest.fixture
def proxy(own_server: EmbeddedServer) -> Iterator[FaultProxy]:
    """The way to that server, with faults on request."""
    with FaultProxy(own_server.port) as proxy:
        yield proxy


@pytest.fixture
def admin(own_server: EmbeddedServer) -> Iterator[redis.Redis]:
    """A plain client for that server, with every script loaded."""
    with redis.Redis.from_url(own_server.url) as client:
        for name in script_names():
            client.script_load(load_script(name).source)
        yield client


@pytest.fixture
def operator(own_server: EmbeddedServer) -> Iterator[FlashSale]:
    """A client with a good network and a lot of time: it prepares and looks."""
    with FlashSale.from_url(own_server.url, timeout_ms=20_000) as shop:
        yield shop


@pytest.fixture(params=SHELLS)
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., FlashSale]]:
    """Makes clients of either shell, ``connect(url, timeout_ms=…)``, and closes them."""
    with ExitStack() as stack:

        def make(url: str, **options: Any) -> FlashSale:
            return stack.enter_context(shells.connect(request.param, url, **options))

        yield make


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    """For what a test opens on its way."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    """Whether to take much more time (`--long`)."""
    return bool(request.config.getoption("--long", default=False))
