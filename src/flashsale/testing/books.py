"""The oracle's books: what happened, and the units of each sku that follow from it.

The figures come from the events alone, and `Books.check` compares them with what the holds
themselves say, so that a mistake in one of the two shows.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgspec import structs

from flashsale.ledger import Entry, Event, EventKind
from flashsale.models import Hold, HoldState, Sale, SkuView

if TYPE_CHECKING:
    from collections.abc import Iterable

MOVES: dict[EventKind, tuple[str, str]] = {
    EventKind.HELD: ("available", "held"),
    EventKind.RETAKEN: ("available", "held"),
    EventKind.CONFIRMED: ("held", "sold"),
    EventKind.DROPPED: ("held", "available"),
    EventKind.RELEASED: ("held", "available"),
    EventKind.EXPIRED: ("held", "available"),
    EventKind.REFUNDED: ("sold", "available"),
}
"""From where to where an event moves the units of its lines. The other kinds move none,
except RESTOCKED, which changes allotment and available together."""


@dataclass
class Units:
    """One sku's figures, as `flashsale.SkuView` has them."""

    allotment: int
    available: int
    set_aside: int = 0
    held: int = 0
    sold: int = 0


@dataclass
class Books:
    """The ledger of one sale and the units per sku that it leaves."""

    sale: Sale
    entries: list[Entry] = field(default_factory=list)
    units: dict[str, Units] = field(init=False)

    def __post_init__(self) -> None:
        """Start with everything available."""
        self.units = {sku.id: Units(sku.stock, sku.stock) for sku in self.sale.skus}

    def open_entry(self, at_ms: int) -> None:
        """Start the next ledger entry."""
        self.entries.append(Entry(epoch=1, sequence=len(self.entries) + 1, at_ms=at_ms, events=()))

    def write(self, event: Event) -> None:
        """Append an event to the last entry and move its units."""
        last = self.entries[-1]
        self.entries[-1] = structs.replace(last, events=(*last.events, event))
        for sku, qty in event.lines.items():
            units = self.units[sku]
            if event.kind is EventKind.RESTOCKED:
                units.allotment += qty
                units.available += qty
            elif event.kind in MOVES:
                source, target = MOVES[event.kind]
                setattr(units, source, getattr(units, source) - qty)
                setattr(units, target, getattr(units, target) + qty)

    def views(self) -> dict[str, SkuView]:
        """The figures of every sku, as a snapshot shows them."""
        return {
            sku.id: SkuView(
                sku=sku.id,
                allotment=(units := self.units[sku.id]).allotment,
                available=units.available,
                set_aside=units.set_aside,
                held=units.held,
                sold=units.sold,
                limit=sku.limit,
            )
            for sku in self.sale.skus
        }

    def check(self, holds: Iterable[Hold]) -> None:
        """Raise AssertionError, saying what is wrong, unless figures, holds and limits agree.

        `holds` are all holds of the sale; a due one counts as held until it was swept.
        """
        held: Counter[str] = Counter()
        sold: Counter[str] = Counter()
        taken: dict[str, Counter[str]] = {}
        for hold in holds:
            mine = hold.lines if hold.state is HoldState.HELD else hold.sold
            (held if hold.state is HoldState.HELD else sold).update(mine)
            taken.setdefault(hold.buyer, Counter()).update(mine)
        for sku, units in self.units.items():
            _check_sku(sku, units, held[sku], sold[sku])
        for buyer, mine_by_sku in taken.items():
            self._check_limits(buyer, mine_by_sku)

    def _check_limits(self, buyer: str, taken: Counter[str]) -> None:
        for sku in self.sale.skus:
            if sku.limit is not None and taken[sku.id] > sku.limit:
                raise AssertionError(
                    f"buyer {buyer!r} has {taken[sku.id]} units of {sku.id!r},"
                    f" above its limit of {sku.limit}"
                )
        if self.sale.limit is not None and taken.total() > self.sale.limit:
            raise AssertionError(
                f"buyer {buyer!r} has {taken.total()} units,"
                f" above the sale's limit of {self.sale.limit}"
            )


def _check_sku(sku: str, units: Units, held: int, sold: int) -> None:
    parts = units.available + units.set_aside + units.held + units.sold
    if units.allotment != parts:
        raise AssertionError(
            f"sku {sku!r}: allotment {units.allotment} is not available {units.available}"
            f" + set aside {units.set_aside} + held {units.held} + sold {units.sold}"
        )
    if min(units.allotment, units.available, units.set_aside, units.held, units.sold) < 0:
        raise AssertionError(f"sku {sku!r}: a figure is below zero: {units}")
    if units.held != held:
        raise AssertionError(f"sku {sku!r}: {units.held} units held, but its holds have {held}")
    if units.sold != sold:
        raise AssertionError(f"sku {sku!r}: {units.sold} units sold, but its holds have {sold}")
