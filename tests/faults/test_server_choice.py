"""A server that will not do is refused before anything is written, with what to change."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from faults.checks import MARGIN_S
from flashsale import ConfigurationError, FlashSale, Outcome, Sale, Sku, StoreUnavailable
from flashsale.embedded import EmbeddedServer
from flashsale.server_check import check_server, parse_info

REDIS_62 = (
    b"# Server\r\nredis_version:6.2.14\r\nredis_mode:standalone\r\n# Memory\r\nmaxmemory:0\r\n"
)
REDIS_70 = (
    b"# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n# Memory\r\nmaxmemory:0\r\n"
)
REDIS_82 = (
    b"# Server\r\nredis_version:8.2.1\r\nredis_mode:standalone\r\n# Memory\r\nmaxmemory:0\r\n"
)
VALKEY_8 = (
    b"# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.3\r\n"
    b"valkey_release_stage:ga\r\nserver_mode:standalone\r\n# Memory\r\nmaxmemory:0\r\n"
)
VALKEY_9 = VALKEY_8.replace(b"8.1.3", b"9.1.2")


@pytest.mark.parametrize(
    ("info", "name"),
    [
        (REDIS_70, "Redis 7.0.15"),
        (REDIS_82, "Redis 8.2.1"),
        (VALKEY_8, "Valkey 8.1.3"),
        (VALKEY_9, "Valkey 9.1.2"),
    ],
)
def test_redis_from_7_0_on_and_every_valkey_will_do(info: bytes, name: str) -> None:
    assert str(check_server(parse_info(info))) == name


@pytest.mark.parametrize("version", [b"6.2.14", b"6.0.20", b"5.0.0", b"2.8.24"])
def test_an_older_server_is_refused_with_what_is_needed(version: bytes) -> None:
    info = REDIS_62.replace(b"6.2.14", version)
    with pytest.raises(ConfigurationError, match=rf"is Redis {version.decode()}.*needs Redis 7\.0"):
        check_server(parse_info(info))


@pytest.mark.parametrize("bound", [b"0", b"1000000"])
def test_an_evicting_policy_is_refused_whether_memory_is_bounded_or_not(bound: bytes) -> None:
    evicting = REDIS_70.replace(b"maxmemory:0", b"maxmemory:" + bound)
    check_server(parse_info(evicting + b"maxmemory_policy:noeviction\r\n"))
    with pytest.raises(ConfigurationError, match="allkeys-lru, it must be noeviction"):
        check_server(parse_info(evicting + b"maxmemory_policy:allkeys-lru\r\n"))


def test_a_real_server_that_may_evict_orders_is_refused_before_anything_is_written(
    connect: Callable[..., FlashSale], own_server: EmbeddedServer, admin: Any
) -> None:
    admin.config_set("maxmemory-policy", "allkeys-lru")
    shop = connect(own_server.url, timeout_ms=10_000)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="maxmemory-policy is allkeys-lru"):
            shop.open(Sale("evicted", [Sku("red", 5)]))
    assert admin.keys() == []
    admin.config_set("maxmemory-policy", "noeviction")
    shop.open(Sale("evicted", [Sku("red", 5)]))


# --- durability ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, "it has appendonly no, appendfsync everysec"),
        ({"appendonly": "yes"}, "it has appendonly yes, appendfsync everysec"),
        ({"appendfsync": "always"}, "it has appendonly no, appendfsync always"),
    ],
)
def test_fsync_on_a_server_that_does_not_do_it_names_what_to_change(
    config: dict[str, str], told: str, connect: Callable[..., FlashSale]
) -> None:
    with EmbeddedServer.start(config=config) as server:
        shop = connect(server.url, timeout_ms=10_000, durability="fsync")
        for _ in range(2):
            with pytest.raises(ConfigurationError) as raised:
                shop.open(Sale("durable", [Sku("red", 5)]))
            assert "needs appendonly yes and appendfsync always" in str(raised.value)
            assert told in str(raised.value)


def test_fsync_is_what_the_embedded_server_gives_when_asked(
    connect: Callable[..., FlashSale],
) -> None:
    with EmbeddedServer.start(durability="fsync") as server:
        shop = connect(server.url, timeout_ms=10_000, durability="fsync")
        sale = shop.open(Sale("durable", [Sku("red", 5)]))
        assert sale.hold("ann", {"red": 1}, hold_id="h").outcome is Outcome.HELD


def test_an_unknown_durability_is_refused_at_once(connect: Callable[..., FlashSale]) -> None:
    with pytest.raises(ConfigurationError, match='must be "memory" or "fsync", not \'disk\''):
        connect("redis://127.0.0.1:1", durability="disk")


def test_a_wrong_password_is_told_at_once_and_a_right_one_works(
    connect: Callable[..., FlashSale],
) -> None:
    with EmbeddedServer.start(config={"requirepass": "s3cret"}) as server:
        assert connect(server.url, timeout_ms=10_000).server().version
        for wrong in (f"redis://127.0.0.1:{server.port}", f"redis://:no@127.0.0.1:{server.port}"):
            shop = connect(wrong, timeout_ms=20_000)
            begun = time.monotonic()
            with pytest.raises(ConfigurationError, match="refuses this user"):
                shop.open(Sale("secret", [Sku("red", 5)]))
            assert time.monotonic() - begun < MARGIN_S


def test_a_host_that_does_not_exist_is_unavailable_in_time(
    connect: Callable[..., FlashSale],
) -> None:
    shop = connect("redis://no-such-host.invalid:6379", timeout_ms=300)
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable, match="not applied"):
        shop.sale("any").hold("ann", {"red": 1}, hold_id="h")
    assert time.monotonic() - begun < 20  # a resolver's own patience is not ours
