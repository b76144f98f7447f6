"""A port that forwards bytes, whatever they are, to another that may change: for TLS, failovers."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from support.wrong_servers import HOST, listening


class Relay:
    """What is between a client and `target`; new connections go where that points to then."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self._clients: list[socket.socket] = []
        self._flowing = threading.Event()
        self._flowing.set()

    def freeze(self) -> None:
        """Nothing passes any more, and nothing is closed."""
        self._flowing.clear()

    def thaw(self) -> None:
        self._flowing.set()

    def reset(self) -> int:
        """Reset every open connection of the client's side (RST); how many these were."""
        clients, self._clients = self._clients, []
        for client in clients:
            # Taken from the threads that pump: they would shut it down, an orderly end.
            if (number := client.detach()) < 0:
                continue
            with socket.socket(fileno=number) as own, contextlib.suppress(OSError):
                own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                own.shutdown(socket.SHUT_RD)
        return len(clients)

    def serve(self, client: socket.socket) -> None:
        with socket.create_connection((HOST, self.target)) as server:
            self._clients.append(client)
            back = threading.Thread(target=self._pump, args=(server, client))
            back.start()
            self._pump(client, server)
            back.join()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self._flowing.wait()
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def relay_to(target: int) -> Iterator[Relay]:
    """A relay, until the end."""
    relay = Relay(target)
    with listening(relay.serve) as relay.port:
        try:
            yield relay
        finally:
            relay.thaw()
            relay.reset()
