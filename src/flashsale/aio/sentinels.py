"""Who is the primary, as a Sentinel's word: asked in bounded time, another one after a failure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import redis
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool

from flashsale.aio.lines import close
from flashsale.connecting import connection_options
from flashsale.errors import ConfigurationError
from flashsale.faults import lost_connection
from flashsale.sentinel import UNREACHABLE, Address, primary_in, refuse_other_servers, why_none


class Primary:
    """What a connection that a Sentinel manages asks for its address, in its pool's place.

    The given pool's sentinels are asked through connections of our own: redis-py's would try a
    lost sentinel ten times with growing pauses, past any time-out of ours, and begin with the
    same one every time. When the primary is another one, `changed` is called.
    """

    is_master = True

    def __init__(
        self, given: SentinelConnectionPool, changed: Callable[[], Awaitable[None]]
    ) -> None:
        if not given.is_master:
            raise ConfigurationError("client: must be one of the Sentinel's master_for")
        self.service_name: str = given.service_name
        self.check_connection: bool = given.check_connection
        self._manager: Any = given.sentinel_manager
        self._changed = changed
        self._address: Address | None = None
        pools = [sentinel.connection_pool for sentinel in self._manager.sentinels]
        self._sentinels: list[Callable[[], _Questions]] = [
            partial(
                _Questions,
                pool.connection_class,
                **connection_options(pool.connection_kwargs, Retry) | {"socket_timeout": None},
            )
            for pool in pools
        ]

    async def get_master_address(self) -> Address:
        """The primary's address; MasterNotFoundError, or why there never is one, without it."""
        failures: list[Exception] = []
        for sentinel in self._sentinels:
            try:
                address = await self._as_seen_by(sentinel)
            except (*UNREACHABLE, asyncio.CancelledError) as error:
                # Cancelled: by the attempt's time-out. The next attempt asks another one first.
                others = [other for other in self._sentinels if other is not sentinel]
                self._sentinels = [*others, sentinel]
                if isinstance(error, asyncio.CancelledError):
                    raise
                failures.append(error)
            else:
                before, self._address = self._address, address
                if before not in (None, address):
                    await self._changed()
                return address
        raise why_none(self.service_name, failures)

    async def _as_seen_by(self, sentinel: Callable[[], _Questions]) -> Address:
        pool = sentinel()
        try:
            masters: Any = await Redis(connection_pool=pool).sentinel_masters()
            return primary_in(masters, self._manager, self.service_name)
        except redis.ResponseError as error:
            refuse_other_servers(error)
            raise
        except Exception as error:
            if (lost := lost_connection(error)) is not None:
                raise lost from error
            raise
        finally:
            await pool.close_at_once()


class _Questions(ConnectionPool):
    """For one question to a sentinel.

    A pool's own `disconnect` waits, and whoever is cancelled while it waits leaves connections
    open: this one is closed without waiting.
    """

    def __init__(self, kind: type[Any], **options: Any) -> None:
        super().__init__(kind, **options)
        self._made: list[Any] = []

    def make_connection(self) -> Any:
        self._made.append(super().make_connection())  # type: ignore[no-untyped-call]
        return self._made[-1]

    async def close_at_once(self) -> None:
        for connection in self._made:
            await close(connection)
