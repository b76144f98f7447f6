"""What a client may be pointed at by mistake: TLS in front of a server, HTTP, a port that talks."""

from __future__ import annotations

import contextlib
import http.server
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HOST = "127.0.0.1"


class Certificate:
    """A self-signed certificate for `localhost` and 127.0.0.1, made by openssl."""

    def __init__(self, folder: Path, name: str = "localhost") -> None:
        self.path, self.key = folder / f"{name}.pem", folder / f"{name}-key.pem"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        subject = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name},IP:{HOST}"]
        files = ["-keyout", str(self.key), "-out", str(self.path)]
        subprocess.run([*command, *subject, *files], check=True, capture_output=True)


@contextmanager
def tls_in_front_of(
    port: int, certificate: Certificate, clients: Certificate | None = None
) -> Iterator[int]:
    """The port of a TLS end whose clients reach that port; `clients`: the one they must show."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.path, certificate.key)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients.path)

    def serve(client: socket.socket) -> None:
        with (
            context.wrap_socket(client, server_side=True) as ours,
            socket.create_connection((HOST, port)) as theirs,
        ):
            ours.settimeout(0.01)
            theirs.settimeout(0.01)
            while not ended.is_set() and _moved(ours, theirs) and _moved(theirs, ours):
                pass

    ended = threading.Event()
    with listening(serve) as listening_port:
        try:
            yield listening_port
        finally:
            ended.set()


def _moved(source: socket.socket, sink: socket.socket) -> bool:
    """Pass on what has come; False at the end."""
    try:
        data = source.recv(1 << 16)
    except TimeoutError:
        return True
    sink.sendall(data)
    return bool(data)


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port of 127.0.0.1 whose every connection is served by a thread of its own."""
    listener = socket.create_server((HOST, 0))
    open_ones: list[socket.socket] = []

    def one(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            serve(client)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                open_ones.append(client)
                threads.append(threading.Thread(target=one, args=(client,)))
                threads[-1].start()

    threads = [threading.Thread(target=accept)]
    threads[0].start()
    try:
        yield listener.getsockname()[1]
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for client in open_ones:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(10)


class _Silent(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args: object) -> None: ...


@contextmanager
def http_server() -> Iterator[int]:
    """The port of a server that speaks HTTP."""
    with http.server.ThreadingHTTPServer((HOST, 0), _Silent) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
