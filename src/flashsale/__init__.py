"""flashsale: a flash-sale order engine whose decisions are made by Lua inside Redis or Valkey."""

from flashsale.aio import AsyncCueEntry, AsyncCueHandle, AsyncFlashSale, AsyncSaleHandle
from flashsale.cues import Cue, CueState, CueView, LagHistogram, Settlement, UnfairWindowWarning
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
from flashsale.keyring import Key
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
from flashsale.sync import CueEntry, CueHandle, FlashSale, SaleHandle

__all__ = [
    "Answer",
    "AsyncCueEntry",
    "AsyncCueHandle",
    "AsyncFlashSale",
    "AsyncSaleHandle",
    "AuditReport",
    "ConfigurationError",
    "Cue",
    "CueEntry",
    "CueHandle",
    "CueState",
    "CueView",
    "Entry",
    "Event",
    "EventKind",
    "FlashSale",
    "FlashSaleError",
    "Hold",
    "HoldRequest",
    "HoldState",
    "InvalidRequest",
    "Key",
    "LagHistogram",
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
    "Settlement",
    "Sku",
    "SkuView",
    "Snapshot",
    "StoreError",
    "StoreUnavailable",
    "UnfairWindowWarning",
    "parse_ref",
]
