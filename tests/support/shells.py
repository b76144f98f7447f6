"""Both shells behind the synchronous one's signatures, so that one test text drives either."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any, cast

import redis
import redis.asyncio

from flashsale import AsyncFlashSale, AsyncSaleHandle, FlashSale
from flashsale.aio import AsyncLedgerHandle
from flashsale.aio.cues import AsyncCueEntry, AsyncCueHandle
from flashsale.aio.queue import AsyncQueueHandle

SHELLS = ("sync", "async")

_ASYNC = (
    AsyncFlashSale,
    AsyncSaleHandle,
    AsyncLedgerHandle,
    AsyncCueHandle,
    AsyncCueEntry,
    AsyncQueueHandle,
)


class Blocking:
    """An object of the asynchronous shell; its coroutine methods run to their end when called."""

    def __init__(self, target: Any, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self._target, self._run = target, run

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if inspect.ismethod(value):
            return lambda *args, **kwargs: self._wrapped(self._finish(value(*args, **kwargs)))
        return self._wrapped(value)

    def _finish(self, result: Any) -> Any:
        return self._run(result) if inspect.iscoroutine(result) else result

    def _wrapped(self, value: Any) -> Any:
        return Blocking(value, self._run) if isinstance(value, _ASYNC) else value


@contextmanager
def connect(shell: str, url: str, **options: Any) -> Iterator[FlashSale]:
    """A client of the shell "sync" or "async", closed at the end.

    The asynchronous one runs on an event loop of its own. It has every method of `FlashSale`
    but `close`, and is called one, so that type checkers check what tests do with it.
    """
    if shell == "sync":
        with FlashSale.from_url(url, **options) as shop:
            yield shop
        return
    with _own_loop() as run:
        client = AsyncFlashSale.from_url(url, **options)
        yield cast("FlashSale", Blocking(client, run))
        run(client.aclose())


@contextmanager
def connect_through(
    shell: str, make_client: Callable[[ModuleType], Any], **options: Any
) -> Iterator[FlashSale]:
    """As `connect`, through a client of the user's own, which is closed after the shop.

    make_client: is given the module `redis` or `redis.asyncio` to make it with.
    """
    if shell == "sync":
        client = make_client(redis)
        with closing_all(client), FlashSale(client, **options) as shop:
            yield shop
        return
    with _own_loop() as run:
        client = make_client(redis.asyncio)
        try:
            shop = AsyncFlashSale(client, **options)
            yield cast("FlashSale", Blocking(shop, run))
            run(shop.aclose())
        finally:
            for part in parts_of(client):
                run(part.aclose())


def parts_of(client: Any) -> list[Any]:
    """A client, and the clients of the sentinels that it asks for its server."""
    pool = getattr(client, "connection_pool", None)
    return [client, *getattr(getattr(pool, "sentinel_manager", None), "sentinels", [])]


@contextmanager
def closing_all(client: Any) -> Iterator[None]:
    """Close a synchronous client at the end, its sentinels' clients included."""
    with ExitStack() as stack:
        for part in parts_of(client):
            stack.callback(part.close)
        yield


@contextmanager
def _own_loop() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    loop = asyncio.new_event_loop()
    try:
        yield loop.run_until_complete
    finally:
        loop.close()
