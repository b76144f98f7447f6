"""The asyncio shell: moves bytes for one event loop, knows no subject."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import redis
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry

from flashsale import audit, batches, inventory, ledger, limits, server_check, views
from flashsale.calls import Call, Operation, Pause
from flashsale.connecting import ATTEMPTS, connection_options, now_ms, url_or_environment
from flashsale.errors import ConfigurationError, FlashSaleError
from flashsale.faults import fault_of, give_up, pause_after, refused
from flashsale.models import (
    Answer,
    AuditReport,
    Basket,
    Hold,
    HoldRequest,
    Late,
    Sale,
    SaleState,
    Snapshot,
)

if TYPE_CHECKING:
    from flashsale.embedded import EmbeddedServer

T = TypeVar("T")


class AsyncFlashSale:
    """The engine for asyncio programs; tasks of one event loop may share one.

    `client` is a `redis.asyncio.Redis` of your own; its connection settings are used, in a pool
    that belongs to this object. `timeout_ms` (1 to 600,000) bounds every call, retries included;
    a call may set its own. `durability`: "memory" is what the server's settings give; "fsync"
    means that an acknowledged order is on disk, and is checked at the first call.

    Belongs to the process that made it and to the event loop of its first call: use after a
    fork or from another loop raises ConfigurationError.
    """

    def __init__(
        self,
        client: Redis,
        *,
        timeout_ms: int = 2_000,
        durability: server_check.Durability = "memory",
    ) -> None:
        server_check.check_options(timeout_ms, durability)
        if not isinstance(client, Redis):
            kind = f"{type(client).__module__}.{type(client).__name__}"
            raise ConfigurationError(f"client: must be a redis.asyncio.Redis, not {kind}")
        self.timeout_ms = timeout_ms
        self.durability = durability
        pool = client.connection_pool
        # Every attempt is bounded by asyncio.timeout. With a time-out of its own redis-py sends
        # through asyncio.wait_for, which on Python 3.11 may swallow a cancellation.
        options = connection_options(pool, Retry) | {"socket_timeout": None}
        self._pool = ConnectionPool(pool.connection_class, pool.max_connections, **options)
        self._pid = os.getpid()
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: server_check.ServerInfo | None = None
        self._embedded: EmbeddedServer | None = None

    @classmethod
    def from_url(
        cls,
        url: str | None = None,
        *,
        timeout_ms: int = 2_000,
        durability: server_check.Durability = "memory",
        max_connections: int = 100,
    ) -> Self:
        """Connect to `url`, or to FLASHSALE_URL; ConfigurationError if there is neither."""
        server_check.check_options(timeout_ms, durability)
        seconds = timeout_ms / 1000
        client = Redis.from_url(
            url_or_environment(url),
            max_connections=max_connections,
            socket_timeout=seconds,
            socket_connect_timeout=seconds,
        )
        return cls(client, timeout_ms=timeout_ms, durability=durability)

    @classmethod
    def embedded(
        cls, *, timeout_ms: int = 2_000, durability: server_check.Durability = "memory"
    ) -> Self:
        """Start a server of this client's own; `aclose` stops it and its data are gone."""
        from flashsale.embedded import EmbeddedServer

        server = EmbeddedServer.start(durability=durability)
        shop = cls.from_url(server.url, timeout_ms=timeout_ms, durability=durability)
        shop._embedded = server
        return shop

    async def __aenter__(self) -> Self:
        self._check_owner()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections and stop the embedded server, if there is one. Idempotent."""
        self._check_process()
        self._closed = True
        await self._pool.disconnect()
        if self._embedded is not None:
            await asyncio.to_thread(self._embedded.stop)

    @property
    def url(self) -> str | None:
        """The embedded server's URL, for other processes; None without one."""
        return None if self._embedded is None else self._embedded.url

    async def server(self, *, timeout_ms: int | None = None) -> server_check.ServerInfo:
        """The server's name and version, checked to be one this library can trust."""
        limit_ms = self._limit(timeout_ms)
        return await self._checked_server(time.monotonic() + limit_ms / 1000, limit_ms)

    async def open(self, sale: Sale, *, timeout_ms: int | None = None) -> AsyncSaleHandle:
        """Create a sale: the operator's one-time step.

        The same definition again is a no-op; another one raises Rejected with CONFLICT, an id
        that was purged with PURGED.
        """
        await self.perform(inventory.open_sale(sale), timeout_ms)
        return AsyncSaleHandle(self, sale.id)

    def sale(self, sale_id: str) -> AsyncSaleHandle:
        """Attach to a sale, without I/O; its verbs answer SALE_UNKNOWN if it is not there."""
        return AsyncSaleHandle(self, limits.check_id("sale", sale_id))

    # --- moving bytes ---------------------------------------------------------------------

    async def perform(self, operation: Operation[T], timeout_ms: int | None = None) -> T:
        """Run an operation: send its calls, give it the replies, return its result."""
        limit_ms = self._limit(timeout_ms)
        deadline = time.monotonic() + limit_ms / 1000
        reserve = limit_ms / 1000 / 10
        try:
            step = next(operation)
            while True:
                if isinstance(step, Pause):
                    # What follows needs time, too: without it, it would end as OutcomeUnknown.
                    in_time = time.monotonic() + step.seconds < deadline - reserve
                    if in_time:
                        await asyncio.sleep(step.seconds)
                    step = operation.send(in_time)
                    continue
                try:
                    reply = await self._send(step, deadline, limit_ms)
                except FlashSaleError as error:
                    step = operation.throw(error)
                else:
                    step = operation.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            operation.close()

    def _limit(self, timeout_ms: int | None) -> int:
        if timeout_ms is None:
            return self.timeout_ms
        return limits.check_int("timeout_ms", timeout_ms, 1, 600_000)

    def _check_owner(self) -> None:
        self._check_process()
        if self._closed:
            raise ConfigurationError("this AsyncFlashSale is closed")

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise ConfigurationError(
                "this AsyncFlashSale was made before a fork: make one per process"
            )
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise ConfigurationError(
                "this AsyncFlashSale belongs to another event loop: make one per loop"
            )

    async def _send(self, call: Call, deadline: float, limit_ms: int) -> Any:
        await self._checked_server(deadline, limit_ms)
        command = ("EVALSHA", call.script.sha, len(call.keys), *call.keys, now_ms(), *call.args)
        load = ("EVAL", call.script.source, *command[2:])
        return await self._retry([command, load], deadline, limit_ms)

    async def _checked_server(self, deadline: float, limit_ms: int) -> server_check.ServerInfo:
        self._check_owner()
        if self._server is None:
            raw = await self._retry([("INFO", *server_check.INFO_SECTIONS)], deadline, limit_ms)
            info = server_check.parse_info(raw)
            server = server_check.check_server(info)
            if self.durability == "fsync":
                command = ("CONFIG", "GET", "appendfsync")
                policy = await self._retry([command], deadline, limit_ms)
                server_check.check_fsync(info, server_check.config_value(policy))
            self._server = server
        return self._server

    async def _retry(
        self, commands: Sequence[tuple[Any, ...]], deadline: float, limit_ms: int
    ) -> Any:
        """Try until the deadline; the second command, if any, is for NOSCRIPT."""
        patience = limit_ms / 1000 / ATTEMPTS
        attempt, unsure, last = 0, False, None
        while (remaining := deadline - time.monotonic()) > 0:
            connection = None
            try:
                async with asyncio.timeout(min(patience, remaining)):
                    connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
                    return await _exchange(connection, commands)
            except Exception as error:  # every kind is judged in one place
                fault = fault_of(error, sent=connection is not None)
                if fault.final is not None:
                    raise refused(fault.final, unsure=unsure) from error
                unsure, last = unsure or fault.unsure, error
            finally:
                if connection is not None:
                    await self._pool.release(connection)
            await asyncio.sleep(max(0.0, min(pause_after(attempt), remaining)))
            attempt += 1
        raise give_up(last, unsure=unsure, timeout_ms=limit_ms) from last


async def _exchange(connection: Any, commands: Sequence[tuple[Any, ...]]) -> Any:
    """One request, one reply, on a connection that is ours alone."""
    for number, command in enumerate(commands):
        try:
            await connection.send_command(*command)
            return await connection.read_response(disable_decoding=True, timeout=None)
        except redis.exceptions.NoScriptError:
            if number == len(commands) - 1:
                raise
        except asyncio.CancelledError:
            # The reply may still come: nobody else may be given this connection with it.
            await connection.disconnect(nowait=True)
            raise
    return None


class AsyncSaleHandle:
    """A sale as seen by an order service: its verbs, each one round trip.

    Every verb is atomic and safe to repeat with the same ids. A verb on a hold names it by
    buyer and hold id, or by an answer, a `Hold`, or a ref. Refusals are outcomes; raised are
    InvalidRequest (nothing sent), StoreUnavailable (not applied), OutcomeUnknown (may have been
    applied: repeat it), ConfigurationError and ProtocolError. `timeout_ms` overrides the
    client's.
    """

    def __init__(self, shop: AsyncFlashSale, sale_id: str) -> None:
        self._shop = shop
        self.id = sale_id
        self.ledger = AsyncLedgerHandle(shop, sale_id)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r}>"

    async def hold(
        self,
        buyer: str,
        basket: Basket,
        *,
        hold_id: str,
        channel: str = "",
        note: str = "",
        timeout_ms: int | None = None,
    ) -> Answer:
        """Take stock for a buyer until `deadline_ms`, the whole basket or nothing.

        basket: {sku: qty} or a sequence of Line, 1 to 32 skus, 1 to 1,000,000 units each.
        hold_id: unique per buyer; the same id and basket again give the original answer, and
        another basket CONFLICT. channel (an identifier) and note (at most 256 bytes) go to the
        ledger and do not count for identity.
        """
        request = HoldRequest(buyer, basket, hold_id, channel, note)
        return await self._shop.perform(inventory.hold(self.id, request), timeout_ms)

    async def hold_many(
        self, requests: Sequence[HoldRequest], *, timeout_ms: int | None = None
    ) -> list[Answer | FlashSaleError]:
        """Many holds, 256 a round trip; answers in the order of the requests, errors in place.

        `timeout_ms` is for all of them together.
        """
        return await self._shop.perform(inventory.hold_many(self.id, requests), timeout_ms)

    async def confirm(
        self,
        hold: str | Answer | Hold,
        hold_id: str | None = None,
        *,
        lines: Basket | None = None,
        late: Late = "refuse",
        timeout_ms: int | None = None,
    ) -> Answer:
        """Sell a paid hold; with `lines`, only those of its units, and the rest is given back.

        late: what to do after the deadline: "refuse" answers EXPIRED, "retake" takes the stock
        and the limit again if there is any, also after the sale's end.
        """
        target = batches.target_of(self.id, hold, hold_id)
        return await self._shop.perform(inventory.confirm(self.id, target, lines, late), timeout_ms)

    async def confirm_many(
        self,
        holds: Sequence[Answer | Hold | str],
        *,
        late: Late = "refuse",
        timeout_ms: int | None = None,
    ) -> list[Answer | FlashSaleError]:
        """Sell many holds, each whole and named by an answer, a `Hold` or a ref; as hold_many."""
        targets = batches.targets_of(self.id, holds)
        return await self._shop.perform(inventory.confirm_many(self.id, targets, late), timeout_ms)

    async def release(
        self,
        hold: str | Answer | Hold,
        hold_id: str | None = None,
        *,
        timeout_ms: int | None = None,
    ) -> Answer:
        """Give a hold up. An id not known yet is remembered, so a delayed hold takes nothing."""
        target = batches.target_of(self.id, hold, hold_id)
        return await self._shop.perform(inventory.release(self.id, target), timeout_ms)

    async def release_many(
        self, holds: Sequence[Answer | Hold | str], *, timeout_ms: int | None = None
    ) -> list[Answer | FlashSaleError]:
        """Give many holds up, each named by an answer, a `Hold` or a ref; as hold_many."""
        targets = batches.targets_of(self.id, holds)
        return await self._shop.perform(inventory.release_many(self.id, targets), timeout_ms)

    async def extend(
        self,
        hold: str | Answer | Hold,
        hold_id: str | None = None,
        *,
        deadline_ms: int,
        timeout_ms: int | None = None,
    ) -> Answer:
        """Set the deadline later, to an absolute time; an earlier one changes nothing.

        At most the sale's `extend_max_ms` past the original deadline: DEADLINE_TOO_FAR beyond.
        """
        target = batches.target_of(self.id, hold, hold_id)
        return await self._shop.perform(inventory.extend(self.id, target, deadline_ms), timeout_ms)

    async def refund(
        self,
        hold: str | Answer | Hold,
        hold_id: str | None = None,
        *,
        lines: Basket,
        op_id: str,
        timeout_ms: int | None = None,
    ) -> Answer:
        """Take paid lines back into stock, once by `op_id`; at most 16 refunds a hold."""
        target = batches.target_of(self.id, hold, hold_id)
        return await self._shop.perform(inventory.refund(self.id, target, lines, op_id), timeout_ms)

    async def find(
        self,
        hold: str | Answer | Hold,
        hold_id: str | None = None,
        *,
        timeout_ms: int | None = None,
    ) -> Hold | None:
        """The hold as the server remembers it, or None. Rejected if there is no such sale."""
        target = batches.target_of(self.id, hold, hold_id)
        return await self._shop.perform(views.find(self.id, target), timeout_ms)

    async def holds_of(self, buyer: str, *, timeout_ms: int | None = None) -> list[Hold]:
        """Every hold of a buyer, oldest first. Rejected if there is no such sale."""
        return await self._shop.perform(views.holds_of(self.id, buyer), timeout_ms)

    async def restock(
        self, changes: Mapping[str, int], *, op_id: str, timeout_ms: int | None = None
    ) -> Answer:
        """Change allotments up or down, all or none, once by `op_id`."""
        return await self._shop.perform(inventory.restock(self.id, changes, op_id), timeout_ms)

    async def pause(self, *, timeout_ms: int | None = None) -> Answer:
        """Refuse new holds until resumed; what is held goes on."""
        return await self._shop.perform(inventory.set_state(self.id, SaleState.PAUSED), timeout_ms)

    async def resume(self, *, timeout_ms: int | None = None) -> Answer:
        """Take holds again."""
        return await self._shop.perform(inventory.set_state(self.id, SaleState.RUNNING), timeout_ms)

    async def end(self, *, timeout_ms: int | None = None) -> Answer:
        """Refuse new holds for ever; what is held goes on."""
        return await self._shop.perform(inventory.set_state(self.id, SaleState.ENDED), timeout_ms)

    async def purge(self, *, timeout_ms: int | None = None) -> Answer:
        """Delete an ended sale's data once nothing is held and every reader has read it all."""
        return await self._shop.perform(inventory.purge(self.id), timeout_ms)

    async def expire(self, max_holds: int = 1_024, *, timeout_ms: int | None = None) -> int:
        """Sweep due holds back to stock, up to `max_holds` (1 to 1,024); how many they were.

        Not needed for correctness: every verb sweeps on its way.
        """
        return await self._shop.perform(inventory.expire(self.id, max_holds), timeout_ms)

    async def snapshot(self, *, timeout_ms: int | None = None) -> Snapshot:
        """The sale at one moment. Rejected if there is no such sale."""
        return await self._shop.perform(views.snapshot(self.id), timeout_ms)

    async def audit(self, *, timeout_ms: int = 120_000) -> AuditReport:
        """Replay the ledger against the state and name what disagrees; also on a running sale."""
        return await self._shop.perform(audit.audit(self.id), timeout_ms)


class AsyncLedgerHandle:
    """What happened to a sale's stock, for whoever must know."""

    def __init__(self, shop: AsyncFlashSale, sale_id: str) -> None:
        self._shop = shop
        self._sale_id = sale_id
        self._names: ledger.Names | None = None

    async def read(
        self, *, after: int = 0, count: int = 100, timeout_ms: int | None = None
    ) -> ledger.Page:
        """Up to `count` (1 to 1,000) entries that follow sequence `after`."""
        if self._names is None:
            view = await self._shop.perform(views.snapshot(self._sale_id), timeout_ms)
            self._names = audit.names_of(view.sale)
        return await self._shop.perform(
            ledger.read(self._sale_id, self._names, after, count), timeout_ms
        )

    async def register(self, reader: str, *, timeout_ms: int | None = None) -> int:
        """Register a reader; nothing it has not finished is trimmed or purged.

        Returns the sequence to read after: where it left off, if it was registered before.
        """
        return await self._shop.perform(ledger.register(self._sale_id, reader), timeout_ms)

    async def ack(self, reader: str, sequence: int, *, timeout_ms: int | None = None) -> int:
        """Say that a reader has finished everything up to `sequence`; it never goes back."""
        operation = ledger.acknowledge(self._sale_id, reader, sequence)
        return await self._shop.perform(operation, timeout_ms)

    async def forget(self, reader: str, *, timeout_ms: int | None = None) -> int:
        """Remove a reader; returns the last sequence it had finished."""
        return await self._shop.perform(ledger.forget(self._sale_id, reader), timeout_ms)

    async def trim(self, *, timeout_ms: int = 120_000) -> int:
        """Trim what every reader has finished and no deadline needs; the new checkpoint."""
        return await self._shop.perform(audit.trim(self._sale_id), timeout_ms)
