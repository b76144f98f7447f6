"""flashsale: a flash-sale order engine whose decisions are made by Lua inside Redis or Valkey."""

from flashsale.aio import AsyncFlashSale, AsyncSaleHandle
from flashsale.errors import (
    ConfigurationError,
    FlashSaleError,
    InvalidRequest,
    OutcomeUnknown,
    Overloaded,
    ProtocolError,
    Rejected,
    StoreError,
    StoreUnavailable,
)
from flashsale.ledger import Entry, Event, EventKind
from flashsale.models import (
    Answer,
    AuditReport,
    Hold,
    HoldRequest,
    HoldState,
    Line,
    Outcome,
    Sale,
    SaleState,
    Sku,
    SkuView,
    Snapshot,
)
from flashsale.refs import Ref, parse_ref
from flashsale.sync import FlashSale, SaleHandle

__all__ = [
    "Answer",
    "AsyncFlashSale",
    "AsyncSaleHandle",
    "AuditReport",
    "ConfigurationError",
    "Entry",
    "Event",
    "EventKind",
    "FlashSale",
    "FlashSaleError",
    "Hold",
    "HoldRequest",
    "HoldState",
    "InvalidRequest",
    "Line",
    "Outcome",
    "OutcomeUnknown",
    "Overloaded",
    "ProtocolError",
    "Ref",
    "Rejected",
    "Sale",
    "SaleHandle",
    "SaleState",
    "Sku",
    "SkuView",
    "Snapshot",
    "StoreError",
    "StoreUnavailable",
    "parse_ref",
]
