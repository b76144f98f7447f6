"""Behind a Sentinel: the client it gives is enough, whoever the primary is."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

import pytest
import redis.asyncio
from redis.sentinel import Sentinel

from cluster.crowd import Crowd
from cluster.test_life import whole_life
from faults.checks import MARGIN_S
from faults.test_lost_lines import AsyncFailingConnection, Failing, FailingConnection
from faults.test_race import every_unit_is_sold
from flashsale import (
    AsyncFlashSale,
    ConfigurationError,
    FlashSale,
    Outcome,
    OutcomeUnknown,
    Sale,
    Sku,
    StoreUnavailable,
)
from flashsale.aio.sentinels import Primary
from flashsale.sync.bounded import attempt, bounded
from flashsale.sync.sentinels import Primary as SyncPrimary
from support.sentinel import Watched
from support.shells import SHELLS, closing_all, connect_through, parts_of


@pytest.fixture(scope="module")
def servers() -> Iterator[Watched]:
    with Watched.start() as servers:
        yield servers


@contextmanager
def shop_of(servers: Watched, **options: Any) -> Iterator[FlashSale]:
    client = Sentinel(servers.addresses).master_for(servers.name)
    with closing_all(client), FlashSale(client, **options) as shop:
        yield shop


@asynccontextmanager
async def async_shop_of(servers: Watched, **options: Any) -> AsyncIterator[AsyncFlashSale]:
    client = redis.asyncio.Sentinel(servers.addresses).master_for(servers.name)
    try:
        async with AsyncFlashSale(client, **options) as shop:
            yield shop
    finally:
        for part in parts_of(client):
            await part.aclose()


def test_a_sale_lives_behind_a_sentinel(
    servers: Watched, through: Callable[..., FlashSale]
) -> None:
    shop = through(lambda module: module.sentinel.Sentinel(servers.addresses).master_for("shop"))
    whole_life(shop, f"life-{type(shop).__name__}")


def test_callers_go_on_with_the_new_primary_and_nothing_is_sold_twice(servers: Watched) -> None:
    definition = Sale("failover", [Sku("red", 400)], hold_ttl_ms=800)
    with shop_of(servers, timeout_ms=20_000) as operator:
        sale = operator.open(definition)
        with Crowd(
            sale.id,
            lambda: shop_of(servers, timeout_ms=1_000),
            lambda: async_shop_of(servers, timeout_ms=1_000),
        ) as crowd:
            crowd.wait_for(40)
            lost = servers.primary
            with servers.no_writes():
                lost.kill()
            servers.wait_for_failover(lost)
            crowd.wait_for(40)
            servers.restart(lost)
            with servers.no_writes():
                servers.swap_roles()  # connections stay: who waits there is told READONLY
            crowd.wait_for(40)
        assert crowd.longest_s < 1 + MARGIN_S
        # Told READONLY, a call knows that it was not applied, and looks for the primary again.
        told = [servers.at(server).info("errorstats") for server in servers.servers]
        assert any("errorstat_READONLY" in errors for errors in told)
        assert not any("previous master is now a slave" in str(error) for error in crowd.errors)
        crowd.was_told_the_truth(sale, definition)
        assert crowd.told(Outcome.CONFIRMED) > 40
        every_unit_is_sold(sale)


def cut(servers: Watched) -> None:
    """Whoever wants to go on has to ask a sentinel."""
    servers.at(servers.servers[0]).client_kill_filter(_type="normal", skipme=True)


def test_sentinels_that_are_lost_delay_no_caller_past_its_time() -> None:
    """redis-py by itself would ask a lost one again and again, and a frozen one for ever."""
    with Watched.start(sentinels=2) as servers, ExitStack() as closing:
        shops = [
            closing.enter_context(
                connect_through(
                    shell,
                    lambda module: module.sentinel.Sentinel(servers.addresses).master_for("shop"),
                    timeout_ms=6_000,
                )
            )
            for shell in SHELLS
        ]
        sales = [shop.open(Sale("alone", [Sku("red", 5)])) for shop in shops]
        frozen, other = servers.sentinels
        os.kill(frozen.pid, signal.SIGSTOP)
        cut(servers)
        for sale in sales:
            assert sale.hold("ann", {"red": 1}, hold_id="h").outcome is Outcome.HELD
        other.kill()
        for sale in sales:  # a connection that is well needs no sentinel
            assert sale.hold("ann", {"red": 1}, hold_id="h").replayed
        cut(servers)
        for sale in sales:
            begun = time.monotonic()
            with pytest.raises((StoreUnavailable, OutcomeUnknown), match="within 200 ms"):
                sale.hold("bob", {"red": 1}, hold_id="h", timeout_ms=200)
            assert time.monotonic() - begun < 0.2 + MARGIN_S
        os.kill(frozen.pid, signal.SIGCONT)
        for sale in sales:
            assert sale.confirm("ann", "h").outcome is Outcome.CONFIRMED


def ask_once(shell: str, servers: Watched) -> tuple[Any, Any, list[Any]]:
    """One question to two sentinels, with a connection to the first one that may fail.

    Returns the answer, and who is asked first the next time, and was this time.
    """
    addresses = 2 * servers.addresses

    async def ask() -> tuple[Any, Any, list[Any]]:
        async def changed() -> None: ...

        client = redis.asyncio.Sentinel(addresses).master_for(servers.name)
        pool = client.connection_pool
        pool.sentinel_manager.sentinels[0].connection_pool.connection_class = AsyncFailingConnection
        primary = Primary(pool, changed)
        before = list(primary._sentinels)
        return await primary.get_master_address(), primary._sentinels[0], before

    if shell == "async":
        return asyncio.run(ask())
    attempt.begin(20.0)
    pool = Sentinel(addresses).master_for(servers.name).connection_pool
    pool.sentinel_manager.sentinels[0].connection_pool.connection_class = FailingConnection
    primary = SyncPrimary(pool, bounded, lambda: None)
    before = list(primary._sentinels)
    return primary.get_master_address(), primary._sentinels[0], before


@pytest.mark.parametrize("where", ["connect", "send", "read", "close"])
@pytest.mark.parametrize(
    "error",
    [
        AttributeError("'NoneType' object has no attribute 'writelines'"),
        RuntimeError("unable to perform operation on <TCPTransport closed=True>"),
        OSError("anything"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("shell", SHELLS)
def test_whatever_the_transport_of_a_sentinel_raises_another_one_is_asked_first_from_then_on(
    shell: str, error: Exception, where: str, servers: Watched
) -> None:
    """And what closing raises hides no answer."""
    Failing.where, Failing.error = where, error
    answer, first, (failing, other) = ask_once(shell, servers)
    assert Failing.error is None, "it was never raised"
    assert answer[1] == servers.primary.port
    assert first is (failing if where == "close" else other)


def test_a_question_cut_short_at_any_moment_leaves_no_connection_behind(servers: Watched) -> None:
    async def after(turns: int, primary: Primary) -> int:
        """Cancel the question after so many turns of the loop; how many it took."""
        task = asyncio.create_task(primary.get_master_address())
        taken = 0
        while not task.done() and taken < turns:
            await asyncio.sleep(0)
            taken += 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return taken

    async def ask() -> None:
        client = redis.asyncio.Sentinel(servers.addresses).master_for(servers.name)
        primary = Primary(client.connection_pool, changed)
        longest = max([await after(10_000, primary) for _ in range(20)])
        for _ in range(5):
            for turns in range(longest + 1):
                await after(turns, primary)

    async def changed() -> None: ...

    unraisable: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", unraisable.append)
        asyncio.run(ask())
        gc.collect()
    assert [str(found.exc_value) for found in unraisable] == []


def test_a_sentinels_client_for_replicas_is_refused(
    servers: Watched, through: Callable[..., FlashSale]
) -> None:
    with pytest.raises(ConfigurationError, match="master_for"):
        through(lambda module: module.sentinel.Sentinel(servers.addresses).slave_for("shop"))
