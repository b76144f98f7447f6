"""Behind a Sentinel: the client it gives is enough, whoever the primary is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import redis.asyncio
from redis.sentinel import Sentinel

from cluster.crowd import Crowd
from cluster.test_life import whole_life
from faults.checks import MARGIN_S
from faults.test_race import every_unit_is_sold
from flashsale import AsyncFlashSale, FlashSale, Outcome, Sale, Sku
from support.cluster import within
from support.sentinel import Watched
from support.shells import closing_all, parts_of


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
    definition = Sale("failover", [Sku("red", 400)], hold_ttl_ms=2_000)
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
            lost.restart()
            within(20, lambda: servers.would_promote(), "the old primary is not a replica")
            with servers.no_writes():
                servers.swap_roles()  # connections stay: whoever writes there is told READONLY
            crowd.wait_for(40)
        assert crowd.longest_s < 1 + MARGIN_S
        assert any("READONLY" in str(error) for error in crowd.errors)
        crowd.was_told_the_truth(sale, definition)
        assert crowd.told(Outcome.CONFIRMED) > 40
        every_unit_is_sold(sale)
