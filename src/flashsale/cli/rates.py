"""What changed between two snapshots, a second."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from flashsale.models import SkuView, Snapshot

COUNTERS = ("allotment", "available", "set_aside", "held", "sold")


class Rates(Struct, frozen=True):
    """Changes a second between two frames, by the shard's clock.

    taken: units that left stock, net of those that came back; in all and per sku. sold: units
    paid, net of refunds. entries: ledger entries; one holds up to a whole batch of decisions.
    """

    over_ms: int
    taken_per_s: float
    sold_per_s: float
    entries_per_s: float
    taken_per_s_by_sku: dict[str, float]


def total_of(skus: Iterable[SkuView]) -> SkuView:
    """The sum of many skus, as one without a name."""
    sums = dict.fromkeys(COUNTERS, 0)
    for sku in skus:
        for counter in COUNTERS:
            sums[counter] += getattr(sku, counter)
    return SkuView("", **sums)


def rates_between(before: Snapshot | None, now: Snapshot) -> Rates | None:
    """The rates, or None where they would mean nothing: no time passed, or another epoch."""
    if before is None or before.epoch != now.epoch or now.at_ms <= before.at_ms:
        return None
    over_ms = now.at_ms - before.at_ms

    def per_s(change: int) -> float:
        return round(1000 * change / over_ms, 1)

    taken = {
        name: sku.held + sku.sold - before.skus[name].held - before.skus[name].sold
        for name, sku in now.skus.items()
    }
    sold = sum(sku.sold - before.skus[name].sold for name, sku in now.skus.items())
    return Rates(
        over_ms=over_ms,
        taken_per_s=per_s(sum(taken.values())),
        sold_per_s=per_s(sold),
        entries_per_s=per_s(now.sequence - before.sequence),
        taken_per_s_by_sku={name: per_s(change) for name, change in taken.items()},
    )
