"""The server of a rehearsal: the one that was named, or one of its own."""

from __future__ import annotations

from contextlib import AsyncExitStack

from flashsale.aio import AsyncFlashSale
from flashsale.embedded import EmbeddedServer
from flashsale.rehearsal.describing import address_of
from flashsale.rehearsal.report import Server
from flashsale.server_check import Durability


def url_of(stack: AsyncExitStack, url: str | None, durability: Durability) -> str:
    """The URL that was given, or that of a server which lasts as long as the stack."""
    if url is not None:
        return url
    return stack.enter_context(EmbeddedServer.start(durability=durability)).url


async def server_of(
    shop: AsyncFlashSale, url: str, *, embedded: bool, cpu: float | None = None
) -> Server:
    """What a report says of the server."""
    told = await shop.server()
    return Server(
        name=told.name, version=told.version, embedded=embedded, address=address_of(url), cpu=cpu
    )
