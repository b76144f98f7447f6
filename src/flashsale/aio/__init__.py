"""The asyncio shell: moves bytes for one event loop, knows no subject."""

from flashsale.aio.client import AsyncFlashSale
from flashsale.aio.cues import AsyncCueEntry, AsyncCueHandle
from flashsale.aio.handles import AsyncLedgerHandle, AsyncSaleHandle
from flashsale.aio.queue import AsyncQueueHandle

__all__ = [
    "AsyncCueEntry",
    "AsyncCueHandle",
    "AsyncFlashSale",
    "AsyncLedgerHandle",
    "AsyncQueueHandle",
    "AsyncSaleHandle",
]
