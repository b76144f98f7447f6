"""What is no server for us, or spoken to in the wrong way, is a ConfigurationError at once.

Passing trouble looks much the same at first, and is none.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis
from redis.sentinel import MasterNotFoundError

from faults.checks import MARGIN_S
from flashsale import (
    ConfigurationError,
    FlashSale,
    ProtocolError,
    Sale,
    Sku,
    StoreUnavailable,
    wrong_server,
)
from flashsale.embedded import EmbeddedServer, free_port
from flashsale.embedded.ingredients import find_binary
from support.proxy import FaultProxy
from support.sentinel import sentinel_in
from support.shells import SHELLS, connect, connect_through
from support.wrong_servers import HOST, Certificate, http_server, listening, tls_in_front_of

LONG_MS = 120_000
"""A time-out whose first attempt alone would take longer than MARGIN_S."""


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer.start() as server:
        yield server


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(params=["a URL", "a client of one's own"])
def point_at(request: pytest.FixtureRequest, shell: str) -> Iterator[Callable[..., FlashSale]]:
    """Makes clients of either shell from a URL, or from a redis-py client made from it."""
    with ExitStack() as stack:

        def make(url: str, **options: Any) -> FlashSale:
            if request.param == "a URL":
                return stack.enter_context(connect(shell, url, **options))
            return stack.enter_context(
                connect_through(shell, lambda module: module.Redis.from_url(url), **options)
            )

        yield make


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def is_refused(shop: FlashSale, pattern: str) -> None:
    """By every call, at once and by name."""
    for call in (
        shop.server,
        shop.sale("any").snapshot,
        lambda: shop.open(Sale("any", [Sku("red", 1)])),
    ):
        begun = time.monotonic()
        with pytest.raises(ConfigurationError, match=pattern):
            call()
        assert time.monotonic() - begun < MARGIN_S


def test_an_http_server(point_at: Callable[..., FlashSale]) -> None:
    with http_server() as port:
        is_refused(
            point_at(f"redis://{HOST}:{port}", timeout_ms=LONG_MS),
            r"neither Redis nor Valkey: its reply begins with '<' \(an HTTP server\?\)",
        )


def test_an_http_server_behind_a_url_for_tls(point_at: Callable[..., FlashSale]) -> None:
    with http_server() as port:
        shop = point_at(f"rediss://{HOST}:{port}", timeout_ms=LONG_MS)
        is_refused(shop, "no TLS on this port|neither Redis nor Valkey")


def test_what_talks_before_it_is_spoken_to(point_at: Callable[..., FlashSale]) -> None:
    def greet(client: socket.socket) -> None:
        client.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
        client.settimeout(5)
        client.recv(1 << 16)

    with listening(greet) as port:
        shop = point_at(f"redis://{HOST}:{port}", timeout_ms=LONG_MS)
        is_refused(shop, "neither Redis nor Valkey: its reply begins with 'S'")


def test_a_tls_port_spoken_to_in_clear(
    point_at: Callable[..., FlashSale], server: EmbeddedServer, certificate: Certificate
) -> None:
    with tls_in_front_of(server.port, certificate) as port:
        is_refused(point_at(f"redis://{HOST}:{port}", timeout_ms=LONG_MS), "expects TLS")


def test_a_clear_port_spoken_to_in_tls(
    point_at: Callable[..., FlashSale], server: EmbeddedServer
) -> None:
    is_refused(
        point_at(f"rediss://{HOST}:{server.port}", timeout_ms=LONG_MS), "no TLS on this port"
    )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("", "certificate does not verify: self.signed"),
        ("?ssl_ca_certs={other}", "certificate does not verify"),
        ("?ssl_ca_certs={own}&ssl_ciphers=NONE", "TLS settings cannot be used"),
        ("?ssl_ca_certs={key}", "TLS settings cannot be used"),
    ],
)
def test_certificates_and_settings_that_do_not_fit(
    options: str,
    told: str,
    point_at: Callable[..., FlashSale],
    server: EmbeddedServer,
    certificate: Certificate,
    tmp_path: Path,
) -> None:
    other = Certificate(tmp_path, "elsewhere.example")
    files = {"own": certificate.path, "key": certificate.key, "other": other.path}
    query = options.format(**{name: quote(str(path), safe="") for name, path in files.items()})
    with tls_in_front_of(server.port, certificate) as port:
        is_refused(point_at(f"rediss://{HOST}:{port}{query}", timeout_ms=LONG_MS), told)


def test_a_certificate_of_another_host(
    point_at: Callable[..., FlashSale], server: EmbeddedServer, tmp_path: Path
) -> None:
    other = Certificate(tmp_path, "elsewhere.example")
    trusted = quote(str(other.path), safe="")
    with tls_in_front_of(server.port, other) as port:
        shop = point_at(f"rediss://localhost:{port}?ssl_ca_certs={trusted}", timeout_ms=LONG_MS)
        is_refused(shop, "certificate does not verify: .*localhost")


def test_a_server_that_wants_a_certificate_of_the_client(
    point_at: Callable[..., FlashSale], server: EmbeddedServer, certificate: Certificate
) -> None:
    trusted = quote(str(certificate.path), safe="")
    with tls_in_front_of(server.port, certificate, clients=certificate) as port:
        url = f"rediss://{HOST}:{port}?ssl_ca_certs={trusted}"
        is_refused(point_at(url, timeout_ms=LONG_MS), "refuses TLS with this client: .*CERTIFICATE")
        files = f"&ssl_certfile={trusted}&ssl_keyfile={quote(str(certificate.key), safe='')}"
        assert point_at(url + files, timeout_ms=LONG_MS).server().version


def test_valkeys_scheme_means_tls(
    shell: str, server: EmbeddedServer, certificate: Certificate
) -> None:
    trusted = quote(str(certificate.path), safe="")
    with tls_in_front_of(server.port, certificate) as port:
        url = f"VALKEYS://localhost:{port}?ssl_ca_certs={trusted}"
        with connect(shell, url, timeout_ms=LONG_MS) as shop:
            assert shop.server().version


@contextmanager
def protected_server(address: str) -> Iterator[int]:
    """A server as it is installed: without a password, for clients of this machine alone."""
    port = free_port()
    options = ["--port", str(port), "--bind", address, "--save", "", "--protected-mode", "yes"]
    with subprocess.Popen([find_binary(None), *options], stdout=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + MARGIN_S
            while time.monotonic() < end:
                try:
                    socket.create_connection((address, port)).close()
                    break
                except ConnectionRefusedError:
                    time.sleep(0.01)
            yield port
        finally:
            process.kill()


def own_address() -> str | None:
    """An address of this machine that is not its loopback's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return None
        address = str(probe.getsockname()[0])
    return None if address.startswith("127.") else address


@pytest.mark.parametrize("protocol", [2, 3])
def test_protected_mode(protocol: int, point_at: Callable[..., FlashSale]) -> None:
    address = own_address()
    if address is None:
        pytest.skip("this machine has no address but its loopback's")
    with protected_server(address) as port:
        url = f"redis://{address}:{port}?protocol={protocol}"
        is_refused(point_at(url, timeout_ms=LONG_MS), "the server is in protected mode")


def test_a_clusters_bus(point_at: Callable[..., FlashSale]) -> None:
    config = {"cluster-enabled": "yes"}
    port = free_port()
    while port > 50_000 or port < 10_000:
        port = free_port()
    with EmbeddedServer.start(config=config, port=port):
        shop = point_at(f"redis://{HOST}:{port + 10_000}", timeout_ms=LONG_MS)
        is_refused(shop, f"port {port + 10_000} is the server's cluster bus: use {port}")


@pytest.mark.parametrize(("protocol", "command"), [(2, "AUTH"), (3, "HELLO")])
def test_a_server_that_repeats_what_it_does_not_know_shows_no_password(
    protocol: int, command: str, point_at: Callable[..., FlashSale]
) -> None:
    password = "Жабка-7531-Щука"
    with EmbeddedServer.start(config={"rename-command": f'{command} ""'}) as server:
        url = f"redis://:{quote(password)}@{HOST}:{server.port}?protocol={protocol}"
        with pytest.raises(ConfigurationError, match=f"unknown command '{command}'") as raised:
            point_at(url, timeout_ms=LONG_MS).server()
    error: BaseException | None = raised.value
    while error is not None:
        shown = f"{error!r} {error} {error.args}"
        assert not [n for n in range(len(password) - 3) if password[n : n + 4] in shown]
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("http", "neither Redis nor Valkey"),
        ("server", "a client for clusters, and the server is not part of one"),
        ("tls", "expects TLS"),
    ],
)
def test_a_client_for_clusters_that_is_not_at_one(
    place: str, told: str, server: EmbeddedServer, certificate: Certificate
) -> None:
    """redis-py's blocking one looks at its cluster itself, when it is made."""
    with (
        http_server() as http,
        tls_in_front_of(server.port, certificate) as tls,
        connect_through(
            "async",
            lambda module: module.RedisCluster(
                host=HOST, port={"http": http, "server": server.port, "tls": tls}[place]
            ),
            timeout_ms=LONG_MS,
        ) as shop,
        pytest.raises(ConfigurationError, match=told),
    ):
        shop.sale("any").snapshot()


# --- sentinels ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sentinel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    program = sentinel_in(tmp_path_factory.mktemp("sentinel"))
    with EmbeddedServer.start(binary=program, config={"requirepass": "hush"}) as sentinel:
        yield sentinel


def test_a_sentinel_in_a_servers_place(
    point_at: Callable[..., FlashSale], sentinel: EmbeddedServer
) -> None:
    is_refused(point_at(sentinel.url, timeout_ms=LONG_MS), "a Sentinel answers there")


def watched_by(port: int, shell: str, stack: ExitStack, **settings: Any) -> FlashSale:
    return stack.enter_context(
        connect_through(
            shell,
            lambda module: module.sentinel.Sentinel([(HOST, port)], **settings).master_for("shop"),
            timeout_ms=LONG_MS,
        )
    )


@pytest.mark.parametrize("password", [None, "wrong"])
def test_a_sentinels_password_that_is_missing_or_wrong(
    password: str | None, shell: str, sentinel: EmbeddedServer, closing: ExitStack
) -> None:
    shop = watched_by(sentinel.port, shell, closing, sentinel_kwargs={"password": password})
    is_refused(shop, "a sentinel refuses this client's user or password")


def test_a_primary_that_no_sentinel_knows(
    shell: str, sentinel: EmbeddedServer, closing: ExitStack
) -> None:
    shop = watched_by(sentinel.port, shell, closing, sentinel_kwargs={"password": "hush"})
    is_refused(shop, "no sentinel watches over a primary 'shop'")


def test_a_server_in_a_sentinels_place(
    shell: str, server: EmbeddedServer, closing: ExitStack
) -> None:
    shop = watched_by(server.port, shell, closing)
    is_refused(shop, "a sentinel's address is no sentinel")


def test_sentinels_that_are_not_there_are_passing_trouble(shell: str, closing: ExitStack) -> None:
    with (
        connect_through(
            shell,
            lambda module: module.sentinel.Sentinel([(HOST, free_port())]).master_for("shop"),
            timeout_ms=300,
        ) as shop,
        pytest.raises(StoreUnavailable),
    ):
        shop.server()
    assert issubclass(MasterNotFoundError, redis.ConnectionError)  # what passes is waited for


# --- what passes --------------------------------------------------------------------------


def test_resets_at_the_first_contact_are_waited_out(
    point_at: Callable[..., FlashSale], server: EmbeddedServer
) -> None:
    with FaultProxy(server.port) as proxy:
        proxy.drop_requests(times=2, then="reset", only="INFO")
        assert point_at(proxy.url, timeout_ms=LONG_MS).server().version
        assert proxy.faults == 2


def test_a_server_that_resets_every_connection_is_unavailable(
    point_at: Callable[..., FlashSale],
) -> None:
    def reset(client: socket.socket) -> None:
        client.settimeout(5)
        client.recv(1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with listening(reset) as port:
        for scheme in ("redis", "rediss"):
            shop = point_at(f"{scheme}://{HOST}:{port}", timeout_ms=400)
            with pytest.raises(StoreUnavailable):
                shop.server()


def test_a_silent_server_is_unavailable_also_over_tls(
    point_at: Callable[..., FlashSale],
) -> None:
    with socket.create_server((HOST, 0)) as listener:
        for scheme in ("redis", "rediss"):
            url = f"{scheme}://{HOST}:{listener.getsockname()[1]}"
            shop = point_at(url, timeout_ms=400)
            begun = time.monotonic()
            with pytest.raises(StoreUnavailable):
                shop.server()
            assert time.monotonic() - begun < MARGIN_S


def test_a_server_that_answers_a_look_byte_by_byte_holds_no_call(shell: str) -> None:
    hung_up = threading.Event()

    def drip(client: socket.socket) -> None:
        client.settimeout(MARGIN_S)
        if client.recv(1) != b"\x16":  # TLS's first byte: a look; others are closed on
            return
        end = time.monotonic() + 2 * MARGIN_S
        try:
            client.sendall(b"$")
            while time.monotonic() < end:
                client.sendall(b"1")
                time.sleep(0.02)
        except OSError:
            hung_up.set()

    with listening(drip) as port:
        with connect(shell, f"redis://{HOST}:{port}", timeout_ms=1_000) as shop:
            begun = time.monotonic()
            with pytest.raises(StoreUnavailable):
                shop.server()
            assert time.monotonic() - begun < MARGIN_S
        assert hung_up.wait(MARGIN_S)


def test_a_look_that_hangs_holds_no_call_of_an_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the resolver, say, which no time-out bounds."""
    looking, ended = threading.Event(), threading.Event()

    def hang(*_: Any) -> bytes:
        looking.set()
        ended.wait(2 * MARGIN_S)
        return b""

    monkeypatch.setattr(wrong_server, "_converse", hang)
    with (
        listening(lambda client: None) as port,
        connect("async", f"redis://{HOST}:{port}", timeout_ms=1_000) as shop,
    ):
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable):
            shop.server()
        assert time.monotonic() - begun < MARGIN_S
        assert looking.is_set()
        ended.set()


def test_a_server_once_found_right_is_not_called_wrong_for_an_error_page(
    shell: str, server: EmbeddedServer
) -> None:
    """A balancer's, say, while the server behind it restarts."""
    pages = [b""]

    def serve(client: socket.socket) -> None:
        with socket.create_connection((HOST, server.port)) as theirs:
            client.settimeout(5)
            while request := client.recv(1 << 16):
                if pages[0]:
                    client.sendall(pages[0])
                    return
                theirs.sendall(request)
                client.sendall(theirs.recv(1 << 16))

    with listening(serve) as port, connect(shell, f"redis://{HOST}:{port}", timeout_ms=400) as shop:
        assert shop.server().version
        pages[0] = b"HTTP/1.1 503 Service Unavailable\r\n\r\n"
        for _ in range(3):
            with pytest.raises((StoreUnavailable, ProtocolError)):
                shop.sale("any").snapshot()
        pages[0] = b""
        assert shop.server().version
