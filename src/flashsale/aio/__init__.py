"""The asyncio shell: moves bytes for one event loop, knows no subject."""

from flashsale.aio.client import AsyncFlashSale
from flashsale.aio.handles import AsyncLedgerHandle, AsyncSaleHandle

__all__ = ["AsyncFlashSale", "AsyncLedgerHandle", "AsyncSaleHandle"]
