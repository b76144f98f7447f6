"""Both shells behind the synchronous one's signatures, so that one test text drives either."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, cast

from flashsale import AsyncFlashSale, AsyncSaleHandle, FlashSale
from flashsale.aio import AsyncLedgerHandle

SHELLS = ("sync", "async")

_ASYNC = (AsyncFlashSale, AsyncSaleHandle, AsyncLedgerHandle)


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
    loop = asyncio.new_event_loop()
    try:
        client = AsyncFlashSale.from_url(url, **options)
        yield cast("FlashSale", Blocking(client, loop.run_until_complete))
        loop.run_until_complete(client.aclose())
    finally:
        loop.close()
