"""The synchronous shell: moves bytes for threads, knows no subject."""

from flashsale.sync.client import FlashSale
from flashsale.sync.handles import LedgerHandle, SaleHandle

__all__ = ["FlashSale", "LedgerHandle", "SaleHandle"]
