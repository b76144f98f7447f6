"""A connection that is lost, refused, or leads to a wrong server: the client goes on without it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from faults.checks import MARGIN_S, books_are_right
from flashsale import (
    AsyncFlashSale,
    FlashSale,
    FlashSaleError,
    Outcome,
    OutcomeUnknown,
    Overloaded,
    Sale,
    Sku,
    StoreError,
    StoreUnavailable,
)
from flashsale.embedded import EmbeddedServer
from flashsale.pools import WAITING_PER_S, Lease
from support.crowds import at_once, crowd, until
from support.proxy import FaultProxy
from support.relay import Relay, relay_to
from support.shells import SHELLS, Blocking
from support.shells import connect as connect_shell
from support.wrong_servers import Certificate, tls_in_front_of

LOOPS = [*SHELLS, "uvloop"]


@contextmanager
def client_of(loop: str, url: str, **options: Any) -> Iterator[Any]:
    if loop != "uvloop":
        with connect_shell(loop, url, **options) as shop:
            yield shop
        return
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:

        async def make() -> AsyncFlashSale:
            return AsyncFlashSale.from_url(url, **options)

        shop = runner.run(make())
        yield Blocking(shop, runner.run)
        runner.run(shop.aclose())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(params=["in clear", "over TLS"])
def way(
    request: pytest.FixtureRequest, own_server: EmbeddedServer, certificate: Certificate
) -> Iterator[tuple[Relay, str]]:
    """A relay to the server, and the URL that leads through it."""
    with ExitStack() as stack:
        if request.param == "in clear":
            relay = stack.enter_context(relay_to(own_server.port))
            yield relay, f"redis://127.0.0.1:{relay.port}"
        else:
            port = stack.enter_context(tls_in_front_of(own_server.port, certificate))
            relay = stack.enter_context(relay_to(port))
            yield relay, f"rediss://localhost:{relay.port}?ssl_ca_certs={certificate.path}"


@pytest.fixture
def looked_at(operator: FlashSale) -> Any:
    return operator.open(Sale("lost", [Sku("red", 10_000)]))


def nodes_of(shop: Any) -> list[Any]:
    target = shop._target if isinstance(shop, Blocking) else shop
    return list(target._connections._nodes.values())


# --- a lost connection is a lost connection -------------------------------------------------


@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize("loop", LOOPS)
def test_an_idle_connection_that_is_reset_costs_no_call_its_answer(
    loop: str, seen: bool, way: tuple[Relay, str], looked_at: Any
) -> None:
    """Whether the event loop has seen the reset before the next call, or not."""
    relay, url = way
    with client_of(loop, url, timeout_ms=20_000) as shop:
        sale = shop.sale(looked_at.id)
        sale.hold("first", {"red": 1}, hold_id="h").unwrap()
        (node,) = nodes_of(shop)
        (connection,) = node.pool._idle
        assert relay.reset() >= 1
        if seen and loop != "sync":
            reader, writer = connection._reader, connection._writer
            until(lambda: writer.is_closing() or reader.at_eof(), shop)
        for n in range(2):
            answer = sale.hold(f"b{n}", {"red": 1}, hold_id="h")
            assert answer.outcome is Outcome.HELD
    books_are_right(looked_at)


def raise_as(module: str, error: Exception) -> None:
    """As if code of that module had raised it."""
    code = {"__name__": module}
    exec("def fail(error):\n    raise error", code)
    code["fail"](error)  # type: ignore[operator]


class Failing:
    """What the transport raises from now on, once, and where."""

    where = ""
    error: Exception | None = None

    @classmethod
    def at(cls, where: str) -> None:
        if cls.where == where and cls.error is not None:
            error, cls.error = cls.error, None
            raise_as("asyncio.streams", error)


class FailingConnection(redis.Connection):
    def _connect(self) -> Any:
        Failing.at("connect")
        return super()._connect()

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        Failing.at("send")
        super().send_packed_command(command, check_health)

    def read_response(self, *args: Any, **options: Any) -> Any:
        Failing.at("read")
        return super().read_response(*args, **options)

    def disconnect(self, *args: Any, **options: Any) -> None:
        super().disconnect(*args, **options)
        Failing.at("close")


class AsyncFailingConnection(redis.asyncio.Connection):
    async def _connect(self) -> Any:
        Failing.at("connect")
        return await super()._connect()

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        Failing.at("send")
        await super().send_packed_command(command, check_health)

    async def read_response(self, *args: Any, **options: Any) -> Any:
        Failing.at("read")
        return await super().read_response(*args, **options)

    async def disconnect(self, *args: Any, **options: Any) -> None:
        await super().disconnect(*args, **options)
        Failing.at("close")


@contextmanager
def client_with(kinds: tuple[Any, Any], shell: str, url: str, **options: Any) -> Iterator[Any]:
    """A client of connections of our own kind."""
    if shell == "sync":
        pool = redis.ConnectionPool.from_url(url, connection_class=kinds[0])
        with FlashSale(redis.Redis.from_pool(pool), **options) as shop:
            yield shop
        return
    with asyncio.Runner() as runner:
        apool = redis.asyncio.ConnectionPool.from_url(url, connection_class=kinds[1])

        async def make() -> AsyncFlashSale:
            return AsyncFlashSale(redis.asyncio.Redis(connection_pool=apool), **options)

        shop = runner.run(make())
        yield Blocking(shop, runner.run)
        runner.run(shop.aclose())


@pytest.mark.parametrize("where", ["connect", "send", "read", "close"])
@pytest.mark.parametrize(
    "error",
    [
        AttributeError("'NoneType' object has no attribute 'writelines'"),
        RuntimeError("unable to perform operation on <TCPTransport closed=True>"),
        ValueError("I/O operation on closed file"),
        EOFError(),
        OSError("anything"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("shell", SHELLS)
def test_whatever_the_transport_raises_is_a_lost_connection_and_tried_again(
    shell: str, error: Exception, where: str, own_server: EmbeddedServer, looked_at: Any
) -> None:
    kinds = (FailingConnection, AsyncFailingConnection)
    with client_with(kinds, shell, own_server.url, timeout_ms=20_000) as shop:
        sale = shop.sale(looked_at.id)
        if where != "connect":
            sale.snapshot()
        Failing.where, Failing.error = where, error
        if where == "close":
            (node,) = nodes_of(shop)
            result = node.forget()
            if asyncio.iscoroutine(result):
                shop._run(result)
        answer = sale.hold("ann", {"red": 1}, hold_id="h")
        assert answer.outcome is Outcome.HELD
        assert Failing.error is None, "it was never raised"


# --- behind one address ---------------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
def test_after_a_failover_behind_one_address_the_same_client_goes_on(
    shell: str, own_server: EmbeddedServer, admin: redis.Redis, looked_at: Any
) -> None:
    """New connections reach the new primary, old ones a server that is a replica now."""
    with (
        EmbeddedServer.start() as second,
        redis.Redis.from_url(second.url) as new,
        relay_to(own_server.port) as relay,
        connect_shell(shell, f"redis://127.0.0.1:{relay.port}", timeout_ms=20_000) as shop,
    ):
        sale = shop.sale(looked_at.id)
        at_once(sale, [lambda sale, n=n: sale.find(f"b{n}", "h") for n in range(20)])
        admin.config_set("repl-diskless-sync-delay", 0)
        new.replicaof("127.0.0.1", own_server.port)
        until(lambda: new.info("replication")["master_link_status"] == "up")
        new.replicaof("NO", "ONE")
        relay.target = second.port
        admin.replicaof("127.0.0.1", second.port)
        answers = [sale.hold(f"b{n}", {"red": 1}, hold_id="h") for n in range(3)]
        assert {answer.outcome for answer in answers} == {Outcome.HELD}
        books_are_right(sale)


class Turned:
    """From `now` on, connections made before answer with an error."""

    now = 0
    error: Exception = redis.ResponseError()

    @classmethod
    def check(cls, made: int) -> None:
        if made < cls.now:
            raise cls.error


class TurnedConnection(redis.Connection):
    def __init__(self, **options: Any) -> None:
        self.made = Turned.now
        super().__init__(**options)

    def read_response(self, *args: Any, **options: Any) -> Any:
        reply = super().read_response(*args, **options)
        Turned.check(self.made)
        return reply


class AsyncTurnedConnection(redis.asyncio.Connection):
    def __init__(self, **options: Any) -> None:
        self.made = Turned.now
        super().__init__(**options)

    async def read_response(self, *args: Any, **options: Any) -> Any:
        reply = await super().read_response(*args, **options)
        Turned.check(self.made)
        return reply


@pytest.mark.parametrize(
    "error",
    [
        redis.exceptions.ReadOnlyError("You can't write against a read only replica."),
        redis.exceptions.MasterDownError("Link with MASTER is down"),
        redis.exceptions.BusyLoadingError("the dataset in memory"),
        redis.exceptions.ClusterDownError("The cluster is down"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("shell", SHELLS)
def test_a_server_that_is_not_the_one_to_ask_is_looked_for_on_new_connections(
    shell: str, error: Exception, own_server: EmbeddedServer, looked_at: Any
) -> None:
    """And every idle connection to it is given up, not one after the other."""
    kinds = (TurnedConnection, AsyncTurnedConnection)
    with client_with(kinds, shell, own_server.url, timeout_ms=20_000) as shop:
        sale = shop.sale(looked_at.id)
        at_once(sale, [lambda sale, n=n: sale.find(f"b{n}", "h") for n in range(20)])
        (node,) = nodes_of(shop)
        Turned.now, Turned.error = Turned.now + 1, error
        answer = sale.hold("ann", {"red": 1}, hold_id="h")
        assert (answer.outcome, answer.replayed) == (Outcome.HELD, True)  # it was carried out
        assert {connection.made for connection in node.pool._idle} == {Turned.now}


# --- closing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", LOOPS)
def test_closing_towards_a_frozen_peer_is_quick_and_quiet(
    loop: str, way: tuple[Relay, str], looked_at: Any
) -> None:
    relay, url = way
    with client_of(loop, url, timeout_ms=60_000) as shop:
        shop.sale(looked_at.id).snapshot()
        relay.freeze()
        begun = time.monotonic()
    assert time.monotonic() - begun < MARGIN_S


async def test_what_closing_raises_does_not_hide_the_callers_own_error(
    own_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Own(Exception):
        pass

    def fail(*_: object) -> None:
        raise OSError("while closing")

    shop = FlashSale.from_url(own_server.url)
    monkeypatch.setattr(shop._connections, "close", fail)
    with pytest.raises(Own) as caught, shop:
        raise Own
    assert "while closing" in caught.value.__notes__[0]
    ashop = AsyncFlashSale.from_url(own_server.url)
    monkeypatch.setattr(ashop._connections, "close", fail)
    with pytest.raises(Own) as caught:
        async with ashop:
            raise Own
    assert "while closing" in caught.value.__notes__[0]


async def test_a_close_that_is_cancelled_closes_all_the_same(
    proxy: FaultProxy, looked_at: Any
) -> None:
    shop = AsyncFlashSale.from_url(proxy.url, timeout_ms=60_000)
    sale = shop.sale(looked_at.id)
    await sale.snapshot()
    proxy.delay(reply_ms=60_000)
    call = asyncio.create_task(sale.find("ann", "h"))
    await asyncio.to_thread(until, lambda: proxy.faults == 1)
    closing = asyncio.create_task(shop.aclose())
    await asyncio.sleep(0)  # it waits for the call now
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    with pytest.raises(StoreError, match="closed"):
        await call
    assert all(not node.pool._idle for node in nodes_of(shop))


def test_a_call_that_waits_for_a_connection_is_told_at_once_that_the_client_was_closed(
    own_server: EmbeddedServer, proxy: FaultProxy, looked_at: Any
) -> None:
    shop = FlashSale.from_url(proxy.url, timeout_ms=60_000, max_connections=1)
    sale = shop.sale(looked_at.id)
    sale.snapshot()
    proxy.delay(reply_ms=60_000)
    with crowd(sale, [lambda sale, n=n: sale.find(f"b{n}", "h") for n in range(4)]) as results:
        (node,) = nodes_of(shop)
        until(lambda: len(node.pool._waiting) == 3)
        begun = time.monotonic()
        shop.close(drain_ms=1)
        ends = results()
    assert time.monotonic() - begun < MARGIN_S
    assert Counter(map(type, ends)) == {StoreUnavailable: 3, OutcomeUnknown: 1}  # one was sent
    assert all("the client was closed" in str(end) for end in ends)


# --- no place for one more --------------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
def test_a_client_that_is_refused_one_more_connection_goes_on_with_those_it_has(
    shell: str, own_server: EmbeddedServer, admin: redis.Redis, looked_at: Any
) -> None:
    """maxclients, which a burst of reads meets: none of them fails, nor does what follows."""
    clients = admin.info("clients")["connected_clients"]
    admin.config_set("maxclients", clients + 2)
    with connect_shell(shell, own_server.url, timeout_ms=20_000) as shop:
        sale = shop.sale(looked_at.id)
        sale.snapshot()
        for _ in range(3):
            ends = at_once(sale, [lambda sale, n=n: sale.find(f"b{n}", "h") for n in range(60)])
            assert set(ends) == {None}
            assert admin.info("stats")["rejected_connections"] > 0
            sale.hold("ann", {"red": 1}, hold_id="h").unwrap()
    admin.config_set("maxclients", 1_000)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_client_that_gets_no_connection_at_all_is_told_so_and_recovers(
    shell: str, own_server: EmbeddedServer, admin: redis.Redis, looked_at: Any
) -> None:
    clients = admin.info("clients")["connected_clients"]
    admin.config_set("maxclients", clients)
    with connect_shell(shell, own_server.url, timeout_ms=20_000) as shop:
        sale = shop.sale(looked_at.id)
        with pytest.raises(StoreUnavailable, match="not applied"):
            sale.hold("ann", {"red": 1}, hold_id="h", timeout_ms=300)
        admin.config_set("maxclients", 1_000)
        assert sale.hold("ann", {"red": 1}, hold_id="h").outcome is Outcome.HELD


@pytest.mark.parametrize("shell", SHELLS)
def test_a_call_that_was_refused_a_connection_tries_again_while_none_comes_back(
    shell: str, own_server: EmbeddedServer, admin: redis.Redis, looked_at: Any
) -> None:
    """The one connection that there is stays lent, past the call's own time."""
    with connect_shell(shell, own_server.url, timeout_ms=20_000) as shop:
        sale = shop.sale(looked_at.id)
        sale.snapshot()
        (node,) = nodes_of(shop)
        lent = Lease(time.monotonic() + 600)
        assert node.pool.ask(lent)
        assert lent.connection is not None
        admin.config_set("maxclients", admin.info("clients")["connected_clients"])
        with crowd(sale, [lambda sale: sale.hold("ann", {"red": 1}, hold_id="h")]) as results:
            until(lambda: node.pool._refused_until > 0, shop)
            admin.config_set("maxclients", 1_000)
            (answer,) = results()
        assert getattr(answer, "outcome", answer) is Outcome.HELD
        assert node.pool.give_back(lent) is None


NO_DESCRIPTORS = """
import asyncio, os, sys
from concurrent.futures import ThreadPoolExecutor
from flashsale import AsyncFlashSale, FlashSale, Outcome, StoreUnavailable

def exhaust():
    kept = []
    try:
        while True:
            kept.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        return kept

def blocking(url):
    with FlashSale.from_url(url, timeout_ms=20_000) as shop, ThreadPoolExecutor(20) as pool:
        sale = shop.sale("lost")
        sale.snapshot()
        list(pool.map(len, ["x"] * 20))  # its threads are there
        kept = exhaust()
        finds = [pool.submit(sale.find, f"b{n}", "h") for n in range(40)]
        assert {find.result() for find in finds} == {None}
        assert sale.hold("ann", {"red": 1}, hold_id="h").outcome is Outcome.HELD
        assert sale.confirm("ann", "h").outcome is Outcome.CONFIRMED
        with FlashSale.from_url(url) as other:
            try:
                other.sale("lost").hold("bob", {"red": 1}, hold_id="h", timeout_ms=200)
            except StoreUnavailable:
                pass
            else:
                raise AssertionError("there was a descriptor left")
        for one in kept:
            os.close(one)

async def in_a_loop(url):
    async with AsyncFlashSale.from_url(url, timeout_ms=20_000) as shop:
        sale = shop.sale("lost")
        await sale.snapshot()
        kept = exhaust()
        finds = await asyncio.gather(*[sale.find(f"b{n}", "h") for n in range(40)])
        assert set(finds) == {None}
        assert (await sale.hold("cyd", {"red": 1}, hold_id="h")).outcome is Outcome.HELD
        assert (await sale.confirm("cyd", "h")).outcome is Outcome.CONFIRMED
        async with AsyncFlashSale.from_url(url) as other:
            try:
                await other.sale("lost").hold("bob", {"red": 1}, hold_id="h", timeout_ms=200)
            except StoreUnavailable:
                pass
            else:
                raise AssertionError("there was a descriptor left")
        for one in kept:
            os.close(one)

if sys.argv[2] == "sync":
    blocking(sys.argv[1])
else:
    asyncio.run(in_a_loop(sys.argv[1]))
"""


@pytest.mark.parametrize("shell", SHELLS)
def test_without_a_descriptor_left_a_client_goes_on_with_the_connections_it_has(
    shell: str, own_server: EmbeddedServer, looked_at: Any, tmp_path: Path
) -> None:
    script = tmp_path / "no_descriptors.py"
    script.write_text(NO_DESCRIPTORS)
    command = f'ulimit -n 64; exec "{sys.executable}" "{script}" {own_server.url} {shell}'
    told = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=100)
    assert told.returncode == 0, told.stderr


# --- waiting ----------------------------------------------------------------------------------


def test_waiting_for_a_connection_takes_a_calls_time_and_none_of_its_attempts(
    connect: Callable[..., FlashSale], proxy: FaultProxy, looked_at: Any
) -> None:
    """In an attempt's third of the time the one connection serves a few; all have their turn."""
    shop = connect(proxy.url, timeout_ms=15_000, max_connections=1)
    sale = shop.sale(looked_at.id)
    sale.snapshot()
    proxy.delay(reply_ms=250)
    before = proxy.connections
    ends = at_once(sale, [lambda sale, n=n: sale.find(f"b{n}", "h") for n in range(24)])
    assert set(ends) == {None}
    assert proxy.connections == before  # no attempt failed, so no connection was given up


@pytest.mark.parametrize("shell", SHELLS)
def test_of_more_single_calls_than_can_be_served_in_time_the_last_are_told_at_once(
    shell: str, proxy: FaultProxy, looked_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who wait are served; a hold, whose callers are counted elsewhere, is not refused."""
    most, timeout_ms = WAITING_PER_S, 1_000
    if shell == "sync":  # few threads, who have the time to come while the first of them wait
        most, timeout_ms = 50, 5_000
        monkeypatch.setattr("flashsale.pools.WAITING_MAX", most)
    with connect_shell(shell, proxy.url, timeout_ms=60_000, max_connections=1) as shop:
        sale = shop.sale(looked_at.id)
        sale.snapshot()
        proxy.delay(reply_ms=60_000, times=1, only="EVALSHA")
        first = [lambda sale: sale.find("first", "h", timeout_ms=20_000)]
        with crowd(sale, first) as results:
            until(lambda: proxy.faults == 1, shop)
            begun = time.monotonic()
            ends = at_once(
                sale,
                [
                    lambda sale, n=n: sale.find(f"b{n}", "h", timeout_ms=timeout_ms)
                    for n in range(most + 20)
                ],
            )
            assert time.monotonic() - begun < MARGIN_S
            kinds = [type(end) for end in ends]
            assert set(kinds) == {Overloaded, StoreUnavailable}
            assert kinds.count(Overloaded) >= 15
            proxy.cut()
            assert results() == [None]
        assert sale.hold("ann", {"red": 1}, hold_id="h").outcome is Outcome.HELD


def test_a_crowd_opens_few_connections(
    connect: Callable[..., FlashSale], own_server: EmbeddedServer, admin: Any, looked_at: Any
) -> None:
    shop = connect(own_server.url, timeout_ms=60_000)
    sale = shop.sale(looked_at.id)
    sale.snapshot()
    before = admin.info("stats")["total_connections_received"]
    ends = at_once(sale, [lambda sale, n=n: sale.find(f"b{n}", "h") for n in range(200)])
    assert not [end for end in ends if isinstance(end, FlashSaleError)]
    assert admin.info("stats")["total_connections_received"] - before <= 100
