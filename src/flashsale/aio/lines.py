"""The connections to one server, lent to one caller at a time, and what is sent on them.

From before the first byte is written until the last reply is read a lease is not clean, and then
its connection is closed, whatever exception ended it (see `flashsale.pools`). An error reply is a
reply.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import redis

from flashsale import server_check
from flashsale.attempts import CLOSED, Attempts
from flashsale.errors import Overloaded, StoreUnavailable
from flashsale.faults import JUDGED, NoneFree, lost_connection, quietly, read_only
from flashsale.pools import CROWDED, SERVE_AGAIN_S, Lease, Pool
from flashsale.redis_py import has_unread
from flashsale.topology import Address

Command = tuple[Any, ...]


class AsyncLease(Lease, eq=False):
    """A lease of a task; its bell is a future."""

    def ring(self) -> None:
        """Nobody else runs meanwhile."""
        if self.bell is not None and not self.bell.done():
            self.bell.set_result(None)


class Attempt:
    """The time of one attempt: that of waiting for a connection is not part of it."""

    def __init__(self, attempts: Attempts, timeout: asyncio.Timeout) -> None:
        self.attempts = attempts
        self._timeout = timeout

    def lease(self) -> AsyncLease:
        """For one exchange of this attempt."""
        attempts = self.attempts
        return AsyncLease(attempts.deadline, attempts.returns, attempts.alone)

    def pause(self) -> float:
        """It waits from now on; returns what is left of it, for `resume`."""
        when = self._timeout.when()
        self._timeout.reschedule(None)
        return 0.0 if when is None else when - asyncio.get_running_loop().time()

    def resume(self, left: float) -> None:
        """It has what it waited for; nothing outlasts the call's deadline."""
        left = max(0.0, min(left, self.attempts.remaining()))
        self._timeout.reschedule(asyncio.get_running_loop().time() + left)


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

    async def lend(self, lease: AsyncLease, attempt: Attempt) -> None:
        """Wait for a connection, until the lease's deadline; `give_back` it however this ends."""
        if not self.pool.ask(lease):
            raise Overloaded(CROWDED)
        while not await self._open(lease, attempt):
            pass

    async def give_back(self, lease: AsyncLease) -> None:
        """The end of a lease: its connection is kept only if no reply is owed on it."""
        await close(self.pool.give_back(lease))

    async def forget(self) -> None:
        """No connection there is now will be used for another call."""
        self.info = None
        for connection in self.pool.forget():
            await close(connection)

    async def retire(self) -> None:
        """Keep no connections any more."""
        self.pool.retire()
        await self.forget()

    async def close(self) -> None:
        """Close every connection: whoever waits, for one or for a reply, is told so."""
        self.closed = True
        lent = self.pool.retire()
        await self.forget()
        for connection in lent:
            _cut(connection)

    async def _open(self, lease: AsyncLease, attempt: Attempt) -> bool:
        """Wait and connect; False if the server refused one more: wait for another one's."""
        if not lease.served:
            left = attempt.pause()
            while not lease.served:
                await self._wait(lease)
            attempt.resume(left)
            if lease.deadline <= time.monotonic():
                raise NoneFree  # its turn has come too late
        return await self._connect(lease)

    async def _wait(self, lease: AsyncLease) -> None:
        seconds = lease.deadline - time.monotonic()
        if self.closed:
            raise StoreUnavailable(f"{CLOSED}. It was not applied")
        if seconds <= 0:
            raise NoneFree
        lease.bell = asyncio.get_running_loop().create_future()
        await asyncio.wait([lease.bell], timeout=min(seconds, SERVE_AGAIN_S))
        if not lease.bell.done():
            self.pool.serve()

    async def _connect(self, lease: AsyncLease) -> bool:
        while lease.connection is not None:
            if await _is_idle(lease.connection):
                return True
            await close(lease.connection)
            self.info = None  # another server may answer there now
            self.pool.another(lease)
        connection = None
        try:
            connection = lease.connection = self._kind(**self._options)
            await connection.connect()
        except (redis.AuthenticationError, redis.TimeoutError):
            raise
        except (redis.ConnectionError, OSError):
            await close(connection)
            if self.pool.refused(lease):
                return False
            raise
        except Exception as error:
            if (lost := lost_connection(error)) is not None:
                raise lost from error
            raise
        self.pool.connected(lease)
        return True


async def send(lease: Lease, command: Command) -> None:
    """Write one command; its reply is owed from here on."""
    connection = lease.connection
    packed = connection.pack_command(*command)  # what cannot be sent harms no connection
    lease.clean = False
    try:
        await connection.send_packed_command(packed)
    except Exception as error:
        if (lost := lost_connection(error)) is not None:
            raise lost from error
        raise


async def receive(lease: Lease) -> Any:
    """Read the one reply that is owed; redis.ResponseError if it is an error reply."""
    try:
        reply = await lease.connection.read_response(disable_decoding=True, timeout=None)
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


async def exchange(lease: Lease, commands: list[Command], asking: bool = False) -> Any:
    """Send the first command; the second, if any, is for NOSCRIPT."""
    for number, command in enumerate(commands):
        if asking:
            await send(lease, ("ASKING",))
            await receive(lease)
        try:
            await send(lease, command)
            return await receive(lease)
        except redis.exceptions.NoScriptError:
            if number == len(commands) - 1:
                raise
    return None


async def close(connection: Any) -> None:
    """Close a connection without waiting; what that raises hides nothing and stops nobody."""
    if connection is None:
        return
    _cut(connection)
    with quietly():
        await connection.disconnect(nowait=True)


def _cut(connection: Any) -> None:
    """End a connection at once: a farewell over TLS would wait for a peer that may be frozen."""
    writer = connection._writer  # redis-py gives no other way to it
    if writer is not None:
        with quietly():
            writer.transport.abort()


async def _is_idle(connection: Any) -> bool:
    """Whether a connection is open, and nothing has come on it that nobody asked for."""
    reader, writer = connection._reader, connection._writer
    if reader is None or writer is None or writer.is_closing():
        return False
    if reader.at_eof() or reader.exception() is not None:
        return False
    try:
        return not await has_unread(connection)
    except JUDGED:
        return False
