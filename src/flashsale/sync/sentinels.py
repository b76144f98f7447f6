"""Who is the primary, as a Sentinel's word: asked in bounded time, another one after a failure."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import redis
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

from flashsale.connecting import connection_options
from flashsale.errors import ConfigurationError
from flashsale.faults import lost_connection
from flashsale.sentinel import UNREACHABLE, Address, primary_in, refuse_other_servers, why_none
from flashsale.sync.lines import close


class Primary:
    """What a connection that a Sentinel manages asks for its address, in its pool's place.

    The given pool's sentinels are asked through connections of our own: redis-py's would try a
    lost sentinel ten times with growing pauses, past any time-out of ours, and begin with the
    same one every time. When the primary is another one, `changed` is called.
    """

    is_master = True

    def __init__(
        self,
        given: SentinelConnectionPool,
        bounded: Callable[[type[Any]], type[Any]],
        changed: Callable[[], None],
    ) -> None:
        if not given.is_master:
            raise ConfigurationError("client: must be one of the Sentinel's master_for")
        self.service_name: str = given.service_name
        self.check_connection: bool = given.check_connection
        self._manager: Any = given.sentinel_manager
        self._changed = changed
        self._address: Address | None = None
        pools = [sentinel.connection_pool for sentinel in self._manager.sentinels]
        self._sentinels: list[Callable[[], redis.Redis]] = [
            partial(
                _client,
                bounded(pool.connection_class),
                connection_options(pool.connection_kwargs, Retry),
            )
            for pool in pools
        ]

    def get_master_address(self) -> Address:
        """The primary's address; MasterNotFoundError, or why there never is one, without it."""
        failures: list[Exception] = []
        for sentinel in self._sentinels:
            try:
                address = self._as_seen_by(sentinel)
            except UNREACHABLE as error:
                failures.append(error)
                # A list of its own: other threads may be reading the old one.
                others = [other for other in self._sentinels if other is not sentinel]
                self._sentinels = [*others, sentinel]
            else:
                before, self._address = self._address, address
                if before not in (None, address):
                    self._changed()
                return address
        raise why_none(self.service_name, failures)

    def _as_seen_by(self, sentinel: Callable[[], redis.Redis]) -> Address:
        client = sentinel()
        try:
            masters: Any = client.sentinel_masters()
            return primary_in(masters, self._manager, self.service_name)
        except redis.ResponseError as error:
            refuse_other_servers(error)
            raise
        except Exception as error:
            if (lost := lost_connection(error)) is not None:
                raise lost from error
            raise
        finally:
            close(client.connection_pool)  # which has one connection


def _client(kind: type[Any], options: dict[str, Any]) -> redis.Redis:
    """For one question: its time-out is that of one attempt."""
    return redis.Redis.from_pool(redis.ConnectionPool(kind, **options))
