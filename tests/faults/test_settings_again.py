"""What a server says of itself is asked again while a client runs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from faults.checks import MARGIN_S, everything
from flashsale import (
    ConfigurationError,
    FlashSale,
    Outcome,
    Rejected,
    Sale,
    Sku,
    StoreUnavailable,
    server_check,
)
from flashsale.embedded import EmbeddedServer, free_port
from support.proxy import FaultProxy
from support.shells import Blocking

LONG_S = 3_600.0
"""Longer than a test takes, on however busy a machine."""

SALE = Sale("standing", [Sku("red", 1_000)])


@pytest.fixture
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call looks again, in place of one every ten seconds."""
    monkeypatch.setattr(server_check, "LOOK_AGAIN_S", 0.0)


# --- settings -----------------------------------------------------------------------------


@pytest.mark.usefixtures("looks_at_once")
def test_a_policy_that_may_evict_stops_a_running_client(
    connect: Callable[..., FlashSale], own_server: EmbeddedServer, admin: Any
) -> None:
    sale = connect(own_server.url, timeout_ms=20_000).open(SALE)
    sale.hold("ann", {"red": 1}, hold_id="h").unwrap()
    admin.config_set("maxmemory-policy", "volatile-lru")
    before = everything(admin)
    for call in (
        lambda: sale.hold("bob", {"red": 1}, hold_id="h"),
        lambda: sale.confirm("ann", "h"),
        sale.snapshot,
    ):
        with pytest.raises(ConfigurationError, match="maxmemory-policy is volatile-lru"):
            call()
    assert everything(admin) == before
    admin.config_set("maxmemory-policy", "noeviction")
    assert sale.confirm("ann", "h").outcome is Outcome.CONFIRMED


@pytest.mark.usefixtures("looks_at_once")
@pytest.mark.parametrize(
    ("setting", "wrong", "right"),
    [("appendfsync", "everysec", "always"), ("appendonly", "no", "yes")],
)
def test_a_server_that_stops_to_sync_stops_a_client_that_promises_it(
    setting: str, wrong: str, right: str, connect: Callable[..., FlashSale]
) -> None:
    with (
        EmbeddedServer.start(durability="fsync") as server,
        redis.Redis.from_url(server.url) as admin,
    ):
        sale = connect(server.url, timeout_ms=20_000, durability="fsync").open(SALE)
        careless = connect(server.url, timeout_ms=20_000).sale(SALE.id)
        admin.config_set(setting, wrong)
        with pytest.raises(ConfigurationError, match="needs appendonly yes and appendfsync always"):
            sale.hold("ann", {"red": 1}, hold_id="h")
        assert careless.hold("bob", {"red": 1}, hold_id="h").outcome is Outcome.HELD
        admin.config_set(setting, right)
        assert sale.hold("ann", {"red": 1}, hold_id="h").outcome is Outcome.HELD


def some_time_passes(shop: FlashSale, periods: int = 1) -> None:
    for node in shop._connections._nodes.values():
        node.looked_at -= periods * LONG_S
        node.known_at -= periods * LONG_S


def hold_at_once(sales: list[Any]) -> list[Any]:
    """One hold in each sale, all at the same time: answers and exceptions."""
    if isinstance(sales[0], Blocking):

        async def hold_all() -> list[Any]:
            holds = (sale._target.hold("ann", {"red": 1}, hold_id="h") for sale in sales)
            return await asyncio.gather(*holds, return_exceptions=True)

        return list(sales[0]._run(hold_all()))
    together = threading.Barrier(len(sales))

    def hold(sale: Any) -> Any:
        together.wait()
        try:
            return sale.hold("ann", {"red": 1}, hold_id="h")
        except ConfigurationError as error:
            return error

    with ThreadPoolExecutor(len(sales)) as threads:
        return list(threads.map(hold, sales))


@pytest.mark.parametrize(("periods", "refused"), [(1, 1), (2, 16)])
def test_nobody_goes_on_with_what_is_twice_as_old_as_a_look_should_be(
    periods: int, refused: int, connect: Callable[..., FlashSale], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one call looks, others go on with what is known only if it is younger than that."""
    monkeypatch.setattr(server_check, "LOOK_AGAIN_S", LONG_S)
    with (
        EmbeddedServer.start(durability="fsync") as server,
        redis.Redis.from_url(server.url) as admin,
    ):
        shop = connect(server.url, timeout_ms=60_000, durability="fsync")
        sales = [shop.open(Sale(f"sale-{n}", [Sku("red", 1)])) for n in range(16)]
        admin.config_set("appendfsync", "no")
        some_time_passes(shop, periods)
        answers = hold_at_once(sales)
        assert sum(isinstance(answer, ConfigurationError) for answer in answers) >= refused


@pytest.mark.parametrize("lost", [1, 2])
def test_who_meets_a_lost_connection_looks_at_who_answers_there_now(
    lost: int, connect: Callable[..., FlashSale], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two looks, while nobody called, the server was restarted with other settings."""
    monkeypatch.setattr(server_check, "LOOK_AGAIN_S", LONG_S)
    with (
        EmbeddedServer.start(durability="fsync") as server,
        redis.Redis.from_url(server.url) as admin,
    ):
        shop = connect(server.url, timeout_ms=60_000, durability="fsync")
        sales = [shop.open(Sale(f"sale-{n}", [Sku("red", 5)])) for n in range(lost)]
        hold_at_once(sales)
        admin.config_set("appendfsync", "no")
        admin.client_kill_filter(_type="normal", skipme=True)
        answers = hold_at_once(sales)
        assert [type(answer) for answer in answers] == [ConfigurationError] * lost
        admin.config_set("appendfsync", "always")
        assert sales[0].hold("bob", {"red": 1}, hold_id="h").outcome is Outcome.HELD


def test_a_look_without_an_answer_makes_nothing_known_younger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_check, "LOOK_AGAIN_S", LONG_S)
    now = time.monotonic()
    assert not server_check.is_due(looked_at=now, known_at=now - LONG_S)
    assert server_check.is_due(looked_at=now, known_at=now - 2 * LONG_S)
    assert server_check.is_due(looked_at=now - LONG_S, known_at=now)


def test_one_call_looks_again_and_the_others_go_on(
    connect: Callable[..., FlashSale],
    own_server: EmbeddedServer,
    proxy: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_check, "LOOK_AGAIN_S", LONG_S)
    shop = connect(proxy.url, timeout_ms=60_000)
    sale = shop.open(SALE)
    for looks in (1, 2):
        for n in range(30):
            sale.hold(f"buyer-{n}", {"red": 1}, hold_id="h").unwrap()
        assert proxy.count("INFO") == looks
        some_time_passes(shop)


def test_many_threads_share_one_look(
    own_server: EmbeddedServer, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_check, "LOOK_AGAIN_S", LONG_S)
    with FlashSale.from_url(proxy.url, timeout_ms=60_000) as shop:
        sale = shop.open(SALE)
        before = proxy.count("INFO")
        some_time_passes(shop)
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda n: sale.hold(f"b{n}", {"red": 1}, hold_id="h"), range(200)))
        assert before < proxy.count("INFO") <= before + 2


# --- replicas -----------------------------------------------------------------------------


def replica_of(port: int, stack: ExitStack) -> tuple[EmbeddedServer, Any]:
    config = {"replicaof": f"127.0.0.1 {port}", "repl-diskless-sync-delay": "0"}
    replica = stack.enter_context(EmbeddedServer.start(config=config))
    return replica, stack.enter_context(redis.Redis.from_url(replica.url))


def test_a_replica_without_a_copy_yet_is_loading_and_knows_of_no_sale_that_is_not_there(
    connect: Callable[..., FlashSale], closing: ExitStack
) -> None:
    replica, client = replica_of(free_port(), closing)
    sale = connect(replica.url, timeout_ms=600).sale(SALE.id)
    for call in (sale.snapshot, lambda: sale.find("ann", "h"), lambda: sale.holds_of("ann")):
        with pytest.raises(StoreUnavailable, match="no copy of its primary's data yet|no answer"):
            call()
    client.replicaof("NO", "ONE")
    with pytest.raises(Rejected, match="sale_unknown"):
        sale.snapshot(timeout_ms=20_000)


def test_what_is_read_from_a_replica_is_marked(
    connect: Callable[..., FlashSale],
    own_server: EmbeddedServer,
    operator: FlashSale,
    admin: Any,
    closing: ExitStack,
) -> None:
    admin.config_set("repl-diskless-sync-delay", 0)
    operator.open(SALE).hold("ann", {"red": 1}, hold_id="h").unwrap()
    primary = connect(own_server.url, timeout_ms=60_000)
    replica, _ = replica_of(own_server.port, closing)
    shop = connect(replica.url, timeout_ms=60_000)
    assert shop.sale(SALE.id).snapshot().stale  # it waits for the copy
    assert shop.server().replica
    assert not primary.sale(SALE.id).snapshot().stale
    assert not primary.server().replica
    assert shop.sale(SALE.id).find("ann", "h") is not None
    # Its primary is gone: what it has is still shown, and still marked.
    own_server.kill()
    end = time.monotonic() + MARGIN_S
    while _link(replica) == "up":
        assert time.monotonic() < end
        time.sleep(0.02)
    later = connect(replica.url, timeout_ms=60_000)
    assert later.sale(SALE.id).snapshot().stale


def _link(replica: EmbeddedServer) -> str:
    with redis.Redis.from_url(replica.url) as client:
        return str(client.info("replication")["master_link_status"])


@pytest.mark.parametrize(
    ("lines", "ready"),
    [
        ("role:master", True),
        ("role:slave master_link_status:up master_sync_in_progress:0", True),
        ("role:slave master_link_status:down master_link_down_since_seconds:4", True),
        ("role:slave master_link_status:down master_link_down_since_seconds:-1", False),
        ("role:slave master_link_status:down master_sync_in_progress:1", False),
        ("role:master loading:1", False),
    ],
)
def test_what_info_says_of_a_replica(lines: str, ready: bool) -> None:
    info = dict(line.split(":") for line in lines.split())
    if ready:
        server_check.check_ready(info)
    else:
        with pytest.raises(redis.exceptions.BusyLoadingError):
            server_check.check_ready(info)
