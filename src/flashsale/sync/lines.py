"""The connections to one server, lent to one caller at a time, and what is sent on them.

From before the first byte is written until the last reply is read a lease is not clean, and then
its connection is closed, whatever exception ended it, at whichever line (see `flashsale.pools`).
An error reply is a reply.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import redis

from flashsale import server_check
from flashsale.attempts import CLOSED
from flashsale.errors import Overloaded, StoreUnavailable
from flashsale.faults import JUDGED, NoneFree, lost_connection, quietly, read_only
from flashsale.guards import Guard
from flashsale.pools import CROWDED, SERVE_AGAIN_S, Lease, Pool
from flashsale.sync.bounded import attempt
from flashsale.topology import Address

Command = tuple[Any, ...]


class SyncLease(Lease, eq=False):
    """A lease of a thread, or a greenlet; its bell is a lock that is held until it rings."""

    def ring(self) -> None:
        """Only one thread at a time comes here."""
        if self.bell is not None and self.bell.locked():
            self.bell.release()


class Node:
    """One server; more callers than connections wait their turn."""

    def __init__(
        self, address: Address | None, most: int, kind: type[Any], options: Mapping[str, Any]
    ) -> None:
        self.address = address
        self.info: server_check.ServerInfo | None = None
        self.looked_at = self.known_at = 0.0
        self.pool = Pool(most)
        self.closed = False
        self._kind, self._options = kind, options
        self._run = Guard(self.pool.serve).run

    def lend(self, lease: SyncLease) -> None:
        """Wait for a connection, until the lease's deadline; `give_back` it however this ends."""
        bell = threading.Lock()
        bell.acquire()
        lease.bell = bell
        if not self._run(self.pool.ask, lease):
            raise Overloaded(CROWDED)
        while not self._open(lease):
            pass

    def lend_now(self, lease: SyncLease) -> bool:
        """The same without waiting for anybody; False if that cannot be."""
        return self._run(self.pool.ask_once, lease) and self._connect(lease)

    def give_back(self, lease: SyncLease) -> None:
        """The end of a lease: its connection is kept only if no reply is owed on it."""
        close(self._run(self.pool.give_back, lease))

    def forget(self) -> None:
        """No connection there is now will be used for another call."""
        self.info = None
        for connection in self._run(self.pool.forget):
            close(connection)

    def retire(self) -> None:
        """Keep no connections any more."""
        self._run(self.pool.retire)
        self.forget()

    def close(self) -> None:
        """Close every connection: whoever waits, for one or for a reply, is told so."""
        self.closed = True
        lent = self._run(self.pool.retire)
        self.forget()
        for connection in lent:
            _cut(connection)

    def _open(self, lease: SyncLease) -> bool:
        """Wait and connect; False if the server refused one more: wait for another one's."""
        since = time.monotonic()
        while not lease.served:
            left = lease.deadline - time.monotonic()
            if self.closed:
                raise StoreUnavailable(f"{CLOSED}. It was not applied")
            if left <= 0:
                raise NoneFree
            lease.bell.acquire(timeout=min(left, SERVE_AGAIN_S))
            if not lease.served:
                self._run(self.pool.serve)
        attempt.waited(since, lease.deadline)
        if lease.deadline <= time.monotonic():
            raise NoneFree  # its turn has come too late
        return self._connect(lease)

    def _connect(self, lease: SyncLease) -> bool:
        while lease.connection is not None:
            if _is_idle(lease.connection):
                return True
            close(lease.connection)
            self.info = None  # another server may answer there now
            self._run(self.pool.another, lease)
        connection = None
        try:
            connection = lease.connection = self._kind(**self._options)
            connection.connect()
        except (redis.AuthenticationError, redis.TimeoutError):
            raise
        except (redis.ConnectionError, OSError):
            close(connection)
            if self._run(self.pool.refused, lease):
                return False
            raise
        except Exception as error:
            if (lost := lost_connection(error)) is not None:
                raise lost from error
            raise
        self._run(self.pool.connected, lease)
        return True


def send(lease: Lease, command: Command) -> None:
    """Write one command; its reply is owed from here on."""
    connection = lease.connection
    packed = connection.pack_command(*command)  # what cannot be sent harms no connection
    lease.clean = False
    try:
        connection.send_packed_command(packed)
    except Exception as error:
        if (lost := lost_connection(error)) is not None:
            raise lost from error
        raise


def receive(lease: Lease, seconds: float) -> Any:
    """Read the one reply that is owed; redis.ResponseError if it is an error reply."""
    try:
        reply = lease.connection.read_response(disable_decoding=True, timeout=seconds)
    except redis.ResponseError:
        lease.clean = True
        raise
    except Exception as error:
        if (said := read_only(error)) is not None:
            raise said from None
        if (lost := lost_connection(error)) is not None:
            raise lost from error
        raise
    lease.clean = True
    return reply


def exchange(lease: Lease, commands: list[Command], asking: bool, end: float) -> Any:
    """Send the first command; the second, if any, is for NOSCRIPT."""
    for number, command in enumerate(commands):
        if asking:
            send(lease, ("ASKING",))
            receive(lease, _until(end))
        try:
            send(lease, command)
            return receive(lease, _until(end))
        except redis.exceptions.NoScriptError:
            if number == len(commands) - 1:
                raise
    return None


def _until(end: float) -> float:
    return max(end - time.monotonic(), 0.001)


def close(connection: Any) -> None:
    """Close a connection; what that raises hides nothing and stops nobody."""
    if connection is None:
        return
    with quietly():
        connection.disconnect()


def _cut(connection: Any) -> None:
    """End a connection that another thread is using, which closes it: it reads no further."""
    sock = connection._sock
    if sock is not None:
        with suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _is_idle(connection: Any) -> bool:
    """Whether a connection is open, and nothing has come on it that nobody asked for."""
    try:
        return connection._sock is not None and not connection.can_read(0)
    except JUDGED:
        return False
