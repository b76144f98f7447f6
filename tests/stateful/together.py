"""Concurrent calls through either shell."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from support.shells import Blocking

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashsale import Answer, HoldRequest


def hold_together(handle: Any, requests: Sequence[HoldRequest]) -> list[Answer]:
    """Hold all of them at once: tasks of one event loop, or threads."""
    if isinstance(handle, Blocking):

        async def gathered() -> list[Answer]:
            return await asyncio.gather(*(_hold(handle._target, request) for request in requests))

        answers: list[Answer] = handle._run(gathered())
        return answers
    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(lambda request: _hold(handle, request), requests))


def _hold(handle: Any, request: HoldRequest) -> Any:
    return handle.hold(
        request.buyer,
        request.basket,
        hold_id=request.hold_id,
        channel=request.channel,
        note=request.note,
    )
