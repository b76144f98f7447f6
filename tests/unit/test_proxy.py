"""The fault proxy does to a connection what it was told, and nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from flashsale.embedded import EmbeddedServer
from support.proxy import FaultProxy
from support.resp import end_of_value, words_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer.start() as started:
        yield started


@pytest.fixture(autouse=True)
def direct(server: EmbeddedServer) -> Iterator[redis.Redis]:
    """Sees what really happened; every test begins on an empty server."""
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        client.flushall()
        yield client


@pytest.fixture
def proxy(server: EmbeddedServer) -> Iterator[FaultProxy]:
    with FaultProxy(server.port) as started:
        yield started


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[redis.Redis]:
    with connect(proxy) as connected:
        yield connected


def connect(proxy: FaultProxy, timeout_s: float = 2) -> redis.Redis:
    """A client that never tries again by itself."""
    return redis.Redis.from_url(
        proxy.url,
        socket_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        single_connection_client=True,
        decode_responses=True,
    )


def raw(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=30)


DELAY_MS = 1_000


def within(seconds: float, reached: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def sent(*words: str) -> bytes:
    parts = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
    return f"*{len(words)}\r\n{parts}".encode()


def read_all(connection: socket.socket) -> bytes:
    received = b""
    while part := connection.recv(4096):
        received += part
    return received


# Forwarding


def test_without_faults_everything_passes(client: redis.Redis, direct: redis.Redis) -> None:
    large = "x" * 300_000
    client.set("large", large)
    assert client.get("large") == large
    with client.pipeline(transaction=False) as pipeline:
        for number in range(500):
            pipeline.rpush("list", number)
        assert pipeline.execute() == list(range(1, 501))
    assert client.lrange("list", 0, -1) == direct.lrange("list", 0, -1)


@pytest.mark.parametrize("protocol", [2, 3])
def test_requests_are_counted_by_command_and_handshakes_apart(
    proxy: FaultProxy, direct: redis.Redis, protocol: int
) -> None:
    with redis.Redis.from_url(proxy.url, protocol=protocol) as client:
        client.hset("hash", mapping={"a": "1", "b": "2"})
        assert client.hgetall("hash") == {b"a": b"1", b"b": b"2"}
        assert client.config_get("maxmemory*")
    assert proxy.count("HSET") == proxy.count("hgetall") == 1
    assert proxy.count() == 3
    assert proxy.count("CLIENT", "HELLO") > 0
    assert proxy.faults == 0


def test_an_asynchronous_client_and_the_proxys_methods_share_a_test(proxy: FaultProxy) -> None:
    async def run() -> None:
        async with redis.asyncio.Redis.from_url(
            proxy.url, retry=redis.asyncio.retry.Retry(NoBackoff(), 0)
        ) as client:
            assert await client.ping()
            proxy.drop_replies(times=1)
            with pytest.raises(redis.ConnectionError):
                await client.ping()
            assert await asyncio.gather(*(client.ping() for _ in range(20))) == [True] * 20

    asyncio.run(run())


# Losing replies and requests


@pytest.mark.parametrize("then", ["close", "reset"])
def test_a_dropped_reply_is_of_a_request_that_was_carried_out(
    then: str, proxy: FaultProxy, client: redis.Redis, direct: redis.Redis
) -> None:
    client.ping()
    proxy.drop_replies(times=2, then=then)  # type: ignore[arg-type]
    for expected in ("1", "2"):
        with pytest.raises(redis.ConnectionError):
            client.incr("counter")
        assert direct.get("counter") == expected
    assert client.incr("counter") == 3
    assert proxy.faults == 2


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize("after_bytes", [0, 10, 10_000])
def test_a_dropped_request_is_never_carried_out(
    after_bytes: int, then: str, proxy: FaultProxy, client: redis.Redis, direct: redis.Redis
) -> None:
    client.ping()
    proxy.drop_requests(times=1, then=then, after_bytes=after_bytes)  # type: ignore[arg-type]
    with pytest.raises(redis.ConnectionError):
        client.incr("counter")
    assert client.incr("counter") == 1
    assert direct.get("counter") == "1"


def test_a_hanging_connection_is_silent_until_its_client_leaves_also_after_the_fault(
    proxy: FaultProxy, direct: redis.Redis
) -> None:
    with connect(proxy, timeout_s=0.2) as client:
        client.ping()
        proxy.drop_replies(times=1, then="hang")
        with pytest.raises(redis.TimeoutError):
            client.incr("counter")
        assert direct.get("counter") == "1"
    with raw(proxy) as connection:
        proxy.drop_requests(times=1, then="hang")
        connection.sendall(sent("INCR", "counter") + sent("PING"))
        assert within(30, lambda: proxy.faults == 2)
        proxy.pass_through()
        connection.sendall(sent("PING"))
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        assert proxy.connections == 1
    assert direct.get("counter") == "1"


def test_a_reply_can_be_cut_within(proxy: FaultProxy, direct: redis.Redis) -> None:
    direct.set("key", "value")
    proxy.drop_replies(after_bytes=6)
    with raw(proxy) as connection:
        connection.sendall(sent("GET", "key"))
        assert read_all(connection) == b"$5\r\nva"


def test_only_the_named_commands_are_hit(proxy: FaultProxy, client: redis.Redis) -> None:
    proxy.drop_replies(only="INCRBY", times=1)
    proxy.drop_requests(only=lambda words: words[:2] == [b"GET", b"b"])
    assert client.set("a", "EVALSHA INCR")
    assert client.get("a") == "EVALSHA INCR"
    with pytest.raises(redis.ConnectionError):
        client.incr("counter")
    with pytest.raises(redis.ConnectionError):
        client.get("b")
    proxy.pass_through()
    assert client.get("b") is None


def test_a_fault_spares_the_handshake(proxy: FaultProxy) -> None:
    proxy.drop_requests()
    with redis.Redis.from_url(proxy.url, protocol=3, retry=Retry(NoBackoff(), 0)) as client:
        client.connection_pool.get_connection()
    assert proxy.count("HELLO") == 1
    assert proxy.faults == 0


def test_within_a_pipeline_the_fault_hits_exactly_its_request(
    proxy: FaultProxy, direct: redis.Redis
) -> None:
    pipeline = sent("INCR", "a") + sent("INCR", "b") + sent("INCR", "c")
    proxy.drop_replies(only=lambda words: words[-1] == b"b", times=1)
    with raw(proxy) as connection:
        connection.sendall(pipeline)
        assert read_all(connection) == b":1\r\n"
    assert direct.mget("a", "b") == ["1", "1"]
    proxy.drop_requests(only=lambda words: words[-1] == b"b", times=1)
    with raw(proxy) as connection:
        connection.sendall(pipeline)
        assert read_all(connection) == b":2\r\n"
    assert direct.mget("a", "b", "c") == ["2", "1", "1"]


def test_what_was_forwarded_is_carried_out_although_the_connection_ends(
    server: EmbeddedServer, proxy: FaultProxy, direct: redis.Redis
) -> None:
    direct.ping()
    with raw(proxy) as connection:
        connection.sendall(sent("PING"))
        assert connection.recv(64) == b"+PONG\r\n"
        os.kill(server.pid, signal.SIGSTOP)
        try:
            # More than the server reads at once: its first replies find nobody.
            connection.sendall(sent("INCR", "counter") * 3000)
            assert within(30, lambda: proxy.count("INCR") == 3000)
            assert proxy.cut() == 1
        finally:
            os.kill(server.pid, signal.SIGCONT)
    assert within(30, lambda: direct.get("counter") == "3000")


# Delays


@pytest.mark.parametrize(
    ("request_ms", "reply_ms", "meanwhile"), [(0, DELAY_MS, "1"), (DELAY_MS, 0, None)]
)
def test_a_delayed_reply_is_of_a_request_carried_out_and_a_delayed_request_is_not_yet(
    request_ms: int,
    reply_ms: int,
    meanwhile: str | None,
    proxy: FaultProxy,
    client: redis.Redis,
    direct: redis.Redis,
) -> None:
    client.ping()
    proxy.delay(request_ms=request_ms, reply_ms=reply_ms, times=1)
    started = time.monotonic()
    thread = threading.Thread(target=client.incr, args=("counter",))
    thread.start()
    assert within(30, lambda: proxy.count("INCRBY") == 1)
    if meanwhile is not None:
        assert within(30, lambda: direct.get("counter") == meanwhile)
    assert direct.get("counter") == meanwhile
    assert thread.is_alive()
    thread.join()
    assert time.monotonic() - started >= DELAY_MS / 1000
    assert direct.get("counter") == "1"


def test_delays_add_up_and_go_with_a_loss(
    proxy: FaultProxy, client: redis.Redis, direct: redis.Redis
) -> None:
    client.ping()
    proxy.delay(request_ms=30)
    proxy.delay(reply_ms=30)
    proxy.drop_replies(times=1)
    started = time.monotonic()
    with pytest.raises(redis.ConnectionError):
        client.incr("counter")
    assert time.monotonic() - started >= 0.06
    assert direct.get("counter") == "1"


# Connections


def test_cut_resets_every_open_connection_and_no_later_one(proxy: FaultProxy) -> None:
    with raw(proxy) as one, raw(proxy) as two:
        for connection in (one, two):
            connection.sendall(sent("PING"))
            assert connection.recv(64) == b"+PONG\r\n"
        assert proxy.cut() == 2
        assert proxy.connections == 0
        for connection in (one, two):
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
    with raw(proxy) as connection:
        connection.sendall(sent("PING"))
        assert connection.recv(64) == b"+PONG\r\n"
        assert proxy.cut(then="close") == 1
        assert connection.recv(1) == b""


def test_half_closed_towards_the_client_requests_still_arrive(
    proxy: FaultProxy, direct: redis.Redis
) -> None:
    with raw(proxy) as connection:
        connection.sendall(sent("PING"))
        assert connection.recv(64) == b"+PONG\r\n"
        proxy.half_close(towards="client")
        assert connection.recv(1) == b""
        connection.sendall(sent("INCR", "counter"))
        connection.shutdown(socket.SHUT_WR)
    assert within(30, lambda: direct.get("counter") == "1")


def test_half_closed_towards_the_server_the_connection_ends_as_the_server_ends_it(
    proxy: FaultProxy,
) -> None:
    with raw(proxy) as connection:
        connection.sendall(sent("PING"))
        assert connection.recv(64) == b"+PONG\r\n"
        proxy.half_close(towards="server")
        assert connection.recv(1) == b""


def test_refusing_leaves_open_connections_and_ends_with_pass_through(
    proxy: FaultProxy, client: redis.Redis
) -> None:
    client.ping()
    proxy.refuse_connections()
    proxy.refuse_connections()
    with pytest.raises(ConnectionRefusedError):
        raw(proxy).close()
    assert client.ping()
    proxy.pass_through()
    with connect(proxy) as other:
        assert other.ping()


def test_a_server_that_is_down_looks_like_a_reset_and_comes_back() -> None:
    with (
        EmbeddedServer.start() as server,
        FaultProxy(server.port) as proxy,
        connect(proxy) as client,
    ):
        assert client.ping()
        server.kill()
        for _ in range(2):
            with pytest.raises(redis.ConnectionError):
                client.ping()
        server.restart()
        assert client.ping()


def test_close_ends_what_is_open_and_may_be_repeated(proxy: FaultProxy) -> None:
    with raw(proxy) as connection:
        connection.sendall(sent("PING"))
        assert connection.recv(64) == b"+PONG\r\n"
        proxy.delay(request_ms=60_000)
        connection.sendall(sent("PING"))
        assert within(30, lambda: proxy.count("PING") == 2)
        proxy.close()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    proxy.close()
    with pytest.raises(ConnectionRefusedError):
        raw(proxy).close()


# Chance, and many clients


def losses(server: EmbeddedServer, seed: int) -> list[bool]:
    with FaultProxy(server.port) as proxy:
        proxy.drop_replies(probability=0.3, seed=seed, only="INCRBY")
        lost = []
        with connect(proxy) as client:
            for _ in range(60):
                try:
                    client.incr("counter")
                except redis.ConnectionError:
                    lost.append(True)
                else:
                    lost.append(False)
        assert proxy.faults == sum(lost)
        return lost


def test_chance_repeats_itself_with_its_seed(server: EmbeddedServer, direct: redis.Redis) -> None:
    first = losses(server, seed=1)
    assert 0 < sum(first) < len(first)
    assert losses(server, seed=1) == first
    assert losses(server, seed=2) != first
    assert direct.get("counter") == "180"


CLIENT = """
import sys
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
lost = 0
with redis.Redis.from_url(sys.argv[1], retry=Retry(NoBackoff(), 0)) as client:
    for _ in range(100):
        try:
            client.incr("counter")
        except redis.ConnectionError:
            lost += 1
print(lost)
"""


def test_several_processes_meet_the_same_faults(proxy: FaultProxy, direct: redis.Redis) -> None:
    proxy.drop_replies(probability=0.1, seed=3)
    proxy.drop_requests(probability=0.1, seed=4, then="reset")
    with ExitStack() as processes:
        clients = [
            processes.enter_context(
                subprocess.Popen([sys.executable, "-c", CLIENT, proxy.url], stdout=subprocess.PIPE)
            )
            for _ in range(2)
        ]
        lost = sum(int(client.communicate(timeout=60)[0]) for client in clients)
    assert proxy.count("INCRBY") == 200
    assert lost == proxy.faults > 0
    applied = int(direct.get("counter") or 0)
    assert 200 - lost < applied < 200


def test_a_forked_client_keeps_nothing_open_that_the_proxy_ends(server: EmbeddedServer) -> None:
    program = f"""
import os, signal, socket
from support.proxy import FaultProxy
with FaultProxy({server.port}) as proxy:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as connection:
        connection.sendall(b"PING\\r\\n")
        print(connection.recv(64))
        child = os.fork()
        if child == 0:
            signal.pause()
        proxy.cut()
        proxy.refuse_connections()
        try:
            connection.recv(1)
        except ConnectionResetError:
            print("reset")
    try:
        socket.create_connection(("127.0.0.1", proxy.port), timeout=30).close()
    except ConnectionRefusedError:
        print("refused")
    os.kill(child, signal.SIGKILL)
    os.wait()
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=20,
        check=True,
    )
    assert done.stdout.split() == ["b'+PONG\\r\\n'", "reset", "refused"]


# The protocol


@pytest.mark.parametrize(
    "value",
    [
        b"+OK\r\n",
        b"-ERR no\r\n",
        b":-12\r\n",
        b"$3\r\na\r\n\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"*2\r\n$1\r\n*\r\n*1\r\n:1\r\n",
        b"%1\r\n+key\r\n~2\r\n#t\r\n,1.5\r\n",
        b"|1\r\n+ttl\r\n:3600\r\n*1\r\n_\r\n",
        b"=7\r\ntxt:a\r\n\r\n",
        b">2\r\n+message\r\n(12345678901234567890\r\n",
        b"PING inline\r\n",
    ],
)
def test_a_value_ends_where_the_protocol_says_and_not_before(value: bytes) -> None:
    assert end_of_value(bytearray(value + b"+next\r\n")) == len(value)
    for length in range(len(value)):
        assert end_of_value(bytearray(value[:length])) is None


def test_the_words_of_a_request_are_its_arguments() -> None:
    assert words_of(sent("SET", "a key", "")) == [b"SET", b"a key", b""]
    assert words_of(b"set key value\r\n") == [b"set", b"key", b"value"]
