"""A server that cannot or may not write refuses cleanly: nothing sold, nothing half written."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
import redis

from faults.checks import MARGIN_S, books_are_right, everything
from flashsale import (
    FlashSale,
    HoldState,
    Outcome,
    Sale,
    Sku,
    StoreUnavailable,
)
from flashsale.embedded import EmbeddedServer

SALE = Sale("refused", [Sku("red", 100_000, limit=2)])


@pytest.fixture
def looked_at(operator: FlashSale) -> Any:
    """A sale with one hold, seen by a client that no fault concerns."""
    sale = operator.open(SALE)
    sale.hold("first", {"red": 2}, hold_id="h").unwrap()
    return sale


@pytest.fixture
def sale(connect: Callable[..., FlashSale], own_server: EmbeddedServer, looked_at: Any) -> Any:
    sale = connect(own_server.url, timeout_ms=600).sale(SALE.id)
    sale.snapshot()
    return sale


def refused(
    sale: Any, pattern: str, *, confirm: bool = True, timeout_ms: int | None = None
) -> None:
    """Hold (and confirm) are refused with this reason, and reading goes on."""
    with pytest.raises(StoreUnavailable, match=pattern):
        sale.hold("ann", {"red": 1}, hold_id="h", timeout_ms=timeout_ms)
    if confirm:
        with pytest.raises(StoreUnavailable, match=pattern):
            sale.confirm("first", "h", timeout_ms=timeout_ms)
    assert sale.find("ann", "h", timeout_ms=10_000) is None
    assert sale.find("first", "h", timeout_ms=10_000).state is HoldState.HELD


def goes_on(sale: Any, looked_at: Any) -> None:
    """The same client sells again, as if nothing had been."""
    answer = sale.hold("ann", {"red": 1}, hold_id="h", timeout_ms=20_000)
    assert (answer.outcome, answer.replayed) == (Outcome.HELD, False)
    assert sale.confirm("first", "h", timeout_ms=20_000).outcome is Outcome.CONFIRMED
    books_are_right(looked_at)


# --- memory -------------------------------------------------------------------------------


def test_full_memory_refuses_holds_and_writes_nothing(
    sale: Any, looked_at: Any, admin: redis.Redis
) -> None:
    before = everything(admin)
    admin.config_set("maxmemory", 1)
    refused(sale, "not applied: OOM", confirm=False)  # see test_full_memory
    assert everything(admin) == before
    admin.config_set("maxmemory", 0)
    goes_on(sale, looked_at)


def test_memory_that_fills_up_during_the_sale_leaves_no_half_order(
    connect: Callable[..., FlashSale], own_server: EmbeddedServer, looked_at: Any, admin: Any
) -> None:
    sale = connect(own_server.url, timeout_ms=20_000).sale(SALE.id)
    admin.config_set("maxmemory", admin.info("memory")["used_memory"] + 300_000)
    held = 0

    def hold_on() -> None:
        nonlocal held
        while held < 50_000:
            sale.hold(f"buyer-{held}", {"red": 2}, hold_id="h", note="x" * 200).unwrap()
            held += 1

    with pytest.raises(StoreUnavailable, match="OOM"):
        hold_on()
    assert books_are_right(looked_at).skus["red"].held == 2 * held + 2
    assert looked_at.find(f"buyer-{held}", "h") is None
    admin.config_set("maxmemory", 0)
    goes_on(sale, looked_at)


# --- replicas and disks -------------------------------------------------------------------


def test_without_enough_replicas_nothing_is_sold(
    sale: Any, looked_at: Any, admin: redis.Redis
) -> None:
    before = everything(admin)
    admin.config_set("min-replicas-to-write", 1)
    refused(sale, "not applied: NOREPLICAS")
    assert everything(admin) == before
    admin.config_set("min-replicas-to-write", 0)
    goes_on(sale, looked_at)


def test_a_replica_refuses_orders_and_shows_the_sale(
    connect: Callable[..., FlashSale],
    own_server: EmbeddedServer,
    looked_at: Any,
    admin: Any,
    closing: ExitStack,
) -> None:
    replica = closing.enter_context(EmbeddedServer.start())
    client = closing.enter_context(redis.Redis.from_url(replica.url))
    admin.config_set("repl-diskless-sync-delay", 0)
    client.replicaof("127.0.0.1", own_server.port)
    sale = connect(replica.url, timeout_ms=5_000).sale(SALE.id)
    end = time.monotonic() + 20
    while client.info("replication")["master_link_status"] != "up":
        assert time.monotonic() < end
        time.sleep(0.02)
    # Behind its address there may be another server at any time, so it is asked as long as we ask.
    refused(sale, r"READONLY.* not applied", timeout_ms=1_500)
    assert everything(client) == everything(admin)

    # Cut off from its primary and told to say so, it knows nothing, for as long as we ask.
    client.config_set("replica-serve-stale-data", "no")
    own_server.kill()
    while client.info("replication")["master_link_status"] != "down":
        assert time.monotonic() < end
        time.sleep(0.02)
    with pytest.raises(StoreUnavailable, match=r"MASTER is down.* not applied"):
        sale.find("first", "h", timeout_ms=300)
    client.replicaof("NO", "ONE")
    answer = sale.hold("ann", {"red": 1}, hold_id="h", timeout_ms=20_000)
    assert answer.outcome is Outcome.HELD


def test_a_disk_that_cannot_be_written_stops_the_sale_cleanly(
    connect: Callable[..., FlashSale], closing: ExitStack
) -> None:
    server = closing.enter_context(EmbeddedServer.start(config={"save": "3600 1"}))
    admin = closing.enter_context(redis.Redis.from_url(server.url))
    shop = closing.enter_context(FlashSale.from_url(server.url, timeout_ms=20_000))
    looked_at = shop.open(SALE)
    looked_at.hold("first", {"red": 2}, hold_id="h").unwrap()
    obstacle = server.directory / "dump.rdb"
    obstacle.mkdir()  # the finished dump cannot be given its name
    save(admin, "err")
    before = everything(admin)
    sale = connect(server.url, timeout_ms=5_000).sale(SALE.id)
    refused(sale, "not applied: MISCONF")
    assert everything(admin) == before
    obstacle.rmdir()
    save(admin, "ok")
    goes_on(sale, looked_at)


def save(admin: Any, expected: str) -> None:
    admin.bgsave()
    end = time.monotonic() + 20
    while (info := admin.info("persistence"))["rdb_bgsave_in_progress"]:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert info["rdb_last_bgsave_status"] == expected


# --- somebody else's script ---------------------------------------------------------------


@contextmanager
def long_script(server: EmbeddedServer, admin: redis.Redis) -> Iterator[Callable[[], None]]:
    """Somebody's endless script; the server says BUSY while it runs. Gives a way to kill it."""
    admin.config_set("busy-reply-threshold", 20)

    def run() -> None:
        with redis.Redis.from_url(server.url) as client, suppress(redis.ResponseError):
            client.eval("while true do end", 0)

    def kill() -> None:
        with redis.Redis.from_url(server.url) as client, suppress(redis.ResponseError):
            client.script_kill()

    thread = threading.Thread(target=run)
    thread.start()
    end = time.monotonic() + 20
    with redis.Redis.from_url(server.url) as client:
        while time.monotonic() < end:
            try:
                client.ping()
            except redis.ResponseError:
                break
            time.sleep(0.01)
    try:
        yield kill
    finally:
        kill()
        thread.join()


def test_a_busy_server_is_asked_again_until_it_answers(
    sale: Any, looked_at: Any, own_server: EmbeddedServer, admin: redis.Redis
) -> None:
    with long_script(own_server, admin) as kill:
        timer = threading.Timer(0.4, kill)
        timer.start()
        begun = time.monotonic()
        answer = sale.hold("bob", {"red": 1}, hold_id="h", timeout_ms=30_000)
        timer.join()
    assert time.monotonic() - begun > 0.2
    assert (answer.outcome, answer.replayed) == (Outcome.HELD, False)
    goes_on(sale, looked_at)


def test_a_server_that_stays_busy_is_unavailable_in_time_and_nothing_is_applied(
    sale: Any, looked_at: Any, own_server: EmbeddedServer, admin: redis.Redis
) -> None:
    with long_script(own_server, admin):
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"BUSY.* not applied"):
            sale.hold("ann", {"red": 1}, hold_id="h", timeout_ms=400)
        assert 0.3 < time.monotonic() - begun < 0.4 + MARGIN_S
    assert looked_at.find("ann", "h") is None
    goes_on(sale, looked_at)
