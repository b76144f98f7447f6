"""The synchronous shell: moves bytes for threads, knows no subject."""

from flashsale.sync.client import FlashSale
from flashsale.sync.cues import CueEntry, CueHandle
from flashsale.sync.handles import LedgerHandle, SaleHandle
from flashsale.sync.queue import QueueHandle

__all__ = ["CueEntry", "CueHandle", "FlashSale", "LedgerHandle", "QueueHandle", "SaleHandle"]
