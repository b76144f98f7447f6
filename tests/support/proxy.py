"""A TCP proxy in front of a server that does what networks do: lose, delay, cut, refuse.

It runs in a thread of its own and is just a port of 127.0.0.1, so synchronous tests,
asynchronous tests and other processes use it alike. It knows where a request and a reply of
the Redis protocol begin and end, so a fault hits exactly the requests it is meant for,
pipelined or not. (Commands answered by more or less than one reply, such as SUBSCRIBE, are
beyond it.)

    with FaultProxy(server.port) as proxy:
        proxy.drop_replies(times=3, only="EVALSHA")    # carried out, and nobody hears of it
        ...
        proxy.pass_through()                           # the network is well again
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from flashsale.embedded import free_port
from support.faults import Ending, Fate, Fault, Judge, Loss, Only
from support.resp import end_of_value

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine
    from types import TracebackType

_HOST = "127.0.0.1"
_CHUNK = 1 << 16
_CALL_S = 60.0
_DRAIN_S = 1.0
_T = TypeVar("_T")


class _Link:
    """A client's connection, the one to the server that belongs to it, and what is under way."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.fates: deque[Fate] = deque()
        self.drops_requests = self.drops_replies = False
        self.ending: Ending = "close"
        self.ended = asyncio.Event()
        self.client_closed = asyncio.Event()

    def end(self, ending: Ending) -> None:
        """Nothing passes from here on; unless it is to hang, the sockets are closed soon."""
        self.drops_requests = self.drops_replies = True
        if ending != "hang" and not self.ended.is_set():
            self.ending = ending
            self.ended.set()


class FaultProxy:
    """Forwards a port of 127.0.0.1 to a server on another, and fails on request.

    Every method may be called from any thread and has taken effect when it returns: the
    next request to arrive is judged by it. Faults add up, in the order in which they were
    asked for, until `pass_through`; of several losses the first one counts.

    All faults take `times` (how many requests they hit, None: all), `only` (see `Only`) and
    `probability` with `seed`: the same seed makes the same choices in the same order of
    requests.
    """

    def __init__(self, target_port: int) -> None:
        self._target = (_HOST, target_port)
        self._judge = Judge()
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None
        self._listener = _listen(None)
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="FaultProxy")
        self._thread.start()
        _proxies.add(self)
        self.accept_connections()

    @property
    def url(self) -> str:
        return f"redis://{_HOST}:{self.port}"

    @property
    def faults(self) -> int:
        """How many requests a fault has hit."""
        return self._judge.struck()

    @property
    def connections(self) -> int:
        """How many clients are connected, hanging ones included."""
        return len(self._links)

    def count(self, *commands: str) -> int:
        """How many requests arrived of these commands; of all but the handshake's if none."""
        return self._judge.count(commands)

    def drop_replies(
        self,
        *,
        times: int | None = None,
        then: Ending = "close",
        after_bytes: int = 0,
        only: Only = None,
        probability: float = 1.0,
        seed: int = 0,
    ) -> None:
        """Let the server carry out the request, forward so many bytes of its reply, then end.

        Replies to requests before it on the connection arrive; those after it are lost too.
        """
        loss = Loss("reply", then, after_bytes)
        self._judge.add(Fault(only, times, probability, seed, loss=loss))

    def drop_requests(
        self,
        *,
        times: int | None = None,
        then: Ending = "close",
        after_bytes: int = 0,
        only: Only = None,
        probability: float = 1.0,
        seed: int = 0,
    ) -> None:
        """Forward so many bytes of the request, too few for the server to act on, then end."""
        loss = Loss("request", then, after_bytes)
        self._judge.add(Fault(only, times, probability, seed, loss=loss))

    def delay(
        self,
        *,
        request_ms: float = 0,
        reply_ms: float = 0,
        times: int | None = None,
        only: Only = None,
        probability: float = 1.0,
        seed: int = 0,
    ) -> None:
        """Hold requests, replies or both back so long, and what follows on the connection."""
        self._judge.add(Fault(only, times, probability, seed, request_ms / 1000, reply_ms / 1000))

    def pass_through(self) -> None:
        """No more faults, and connections are accepted. Those that hang go on hanging."""
        self._judge.clear()
        self.accept_connections()

    def cut(self, then: Literal["close", "reset"] = "reset") -> int:
        """End every open connection, whatever is under way on it; returns how many."""
        return self._call(self._cut(then))

    def half_close(self, towards: Literal["client", "server"]) -> None:
        """Say on every open connection that nothing more comes; the other direction goes on."""
        self._call(self._half_close(towards))

    def refuse_connections(self) -> None:
        """Refuse new connections (ECONNREFUSED); open ones stay."""
        self._call(self._refuse())

    def accept_connections(self) -> None:
        """Take new connections again."""
        self._call(self._accept())

    def close(self) -> None:
        """Reset what is open and end the thread. Idempotent."""
        if self._loop.is_closed():
            return
        self._call(self._shut_down())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        _proxies.discard(self)

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _call(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_CALL_S)

    async def _accept(self) -> None:
        if self._accepting is None:
            if self._listener.fileno() < 0:
                self._listener = _listen(self.port)
            self._accepting = asyncio.create_task(self._accept_for_ever())

    async def _accept_for_ever(self) -> None:
        while True:
            client, _ = await self._loop.sock_accept(self._listener)
            task = asyncio.create_task(self._serve(client))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _refuse(self) -> None:
        if self._accepting is not None:
            await _cancel(self._accepting)
            self._accepting = None
            self._listener.close()

    async def _cut(self, ending: Ending) -> int:
        links = list(self._links)
        for link in links:
            link.end(ending)
        for link in links:
            await link.client_closed.wait()
        return len(links)

    async def _half_close(self, towards: Literal["client", "server"]) -> None:
        for link in self._links:
            with contextlib.suppress(OSError):
                if towards == "client":
                    link.drops_replies = True
                    link.client.shutdown(socket.SHUT_WR)
                else:
                    link.drops_requests = True
                    link.server.shutdown(socket.SHUT_WR)

    async def _shut_down(self) -> None:
        await self._refuse()
        self._listener.close()
        await self._cut("reset")
        await _cancel(*self._tasks)

    async def _serve(self, client: socket.socket) -> None:
        with client, socket.socket() as server:
            for end in (client, server):
                end.setblocking(False)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                await self._loop.sock_connect(server, self._target)
            except OSError:
                _reset(client)
                return
            link = _Link(client, server)
            self._links.add(link)
            try:
                await self._pump(link)
            finally:
                self._links.discard(link)
                link.client_closed.set()

    async def _pump(self, link: _Link) -> None:
        requests = asyncio.create_task(self._forward_requests(link))
        replies = asyncio.create_task(self._forward_replies(link))
        try:
            await link.ended.wait()
        finally:
            # A socket must not be closed while the loop still watches it.
            await _cancel(requests, replies)
        if link.ending == "reset":
            _reset(link.client)
        link.client.close()
        self._links.discard(link)
        link.client_closed.set()
        # What was forwarded shall be carried out: closing at once could take it back.
        with contextlib.suppress(OSError, TimeoutError):
            link.server.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(_DRAIN_S):
                while await self._loop.sock_recv(link.server, _CHUNK):
                    pass

    async def _forward_requests(self, link: _Link) -> None:
        values = self._values(link.client)
        try:
            async for request, arrived in values:
                if link.drops_requests:
                    continue
                fate = self._judge.judge(request)
                await self._sleep_until(arrived + fate.delay_request_s)
                if loss := fate.loses("request"):
                    link.drops_requests = True
                    part = request[: min(loss.after_bytes, len(request) - 1)]
                    await self._loop.sock_sendall(link.server, part)
                    link.fates.append(fate)
                    self._end_at_lost_request(link)
                else:
                    link.fates.append(fate)  # before the reply can be here
                    await self._loop.sock_sendall(link.server, request)
            if link.drops_requests or link.drops_replies:
                link.end("close")
            else:
                link.server.shutdown(socket.SHUT_WR)
        except OSError:
            link.end("reset")
        finally:
            await values.aclose()

    async def _forward_replies(self, link: _Link) -> None:
        values = self._values(link.server)
        try:
            async for reply, arrived in values:
                if link.drops_replies:
                    continue
                # A push message answers nobody, nor does an error of the connection.
                answers = link.fates and not reply.startswith(b">")
                fate = link.fates.popleft() if answers else Fate()
                await self._sleep_until(arrived + fate.delay_reply_s)
                if loss := fate.loses("reply"):
                    await self._loop.sock_sendall(link.client, reply[: loss.after_bytes])
                    link.end(loss.then)
                    continue
                await self._loop.sock_sendall(link.client, reply)
                self._end_at_lost_request(link)
            if not link.drops_replies:
                link.end("close")
        except OSError:
            if not link.drops_replies:
                link.end("reset")
        finally:
            await values.aclose()

    @staticmethod
    def _end_at_lost_request(link: _Link) -> None:
        """End the link if a lost request is next, all replies before it being delivered."""
        if link.fates and (loss := link.fates[0].loses("request")):
            link.end(loss.then)

    async def _values(self, source: socket.socket) -> AsyncGenerator[tuple[bytes, float], None]:
        """The complete values that come in, each with the time of its arrival."""
        buffer = bytearray()
        while chunk := await self._loop.sock_recv(source, _CHUNK):
            buffer += chunk
            arrived = self._loop.time()
            while (end := end_of_value(buffer)) is not None:
                value = bytes(buffer[:end])
                del buffer[:end]
                yield value, arrived

    async def _sleep_until(self, time: float) -> None:
        if (left := time - self._loop.time()) > 0:
            await asyncio.sleep(left)


def _listen(port: int | None) -> socket.socket:
    while True:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((_HOST, port or free_port()))
            listener.listen(512)
        except OSError:
            listener.close()
            if port is not None:
                raise
        else:
            listener.setblocking(False)
            return listener


def _reset(end: socket.socket) -> None:
    """Make the close that follows a reset (RST) instead of an orderly end (FIN)."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


_proxies: weakref.WeakSet[FaultProxy] = weakref.WeakSet()


def _close_in_child() -> None:
    """A forked client's copies of the sockets would keep alive what the proxy closes."""
    for proxy in _proxies:
        proxy._listener.close()
        for link in proxy._links:
            link.client.close()
            link.server.close()
    _proxies.clear()


os.register_at_fork(after_in_child=_close_in_child)
