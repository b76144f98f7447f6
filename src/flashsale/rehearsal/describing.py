"""What a report says of how a run was set up, and what else is worth a note."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from flashsale.errors import InvalidRequest
from flashsale.models import Sale, Snapshot
from flashsale.rehearsal.crowd import Crowd
from flashsale.rehearsal.report import Server, Setup
from flashsale.rehearsal.scenarios import Scenario, Size

SETTLE_S = (3.5, 60.0)
"""Seconds after the last arrival for payments under way and for holds to fall due, at least
and at most; in between, five times the mean time to think."""


def settle_s(scenario: Scenario, size: Size) -> float:
    """How long a run waits after the last arrival."""
    least, most = SETTLE_S
    return min(most, max(least, 5 * scenario.crowd.think_s / size.time_factor))


def setup_of(
    scenario: Scenario, size: Size, sale: Sale, server: Server, durability: str, seed: int | str
) -> Setup:
    """Everything that was decided before the run."""
    peak = scenario.curve.peak(size.seconds * size.time_factor)
    crowd = scenario.crowd
    assumed = {
        field: str(getattr(crowd, field))
        for field in Crowd.__struct_fields__
        if field != "sources" and field not in crowd.sources
    }
    return Setup(
        scenario=scenario.name,
        about=scenario.about,
        curve=scenario.curve.source,
        sale=sale.id,
        scale=str(size),
        rate_divisor=size.rate_divisor,
        time_factor=size.time_factor,
        seconds=size.seconds,
        peak_per_s=round(peak / size.rate_divisor, 1),
        full_peak_per_s=peak,
        seed=seed,
        durability=durability,
        cores=os.cpu_count() or 1,
        server=server,
        crowd_sources=crowd.sources,
        assumed=assumed,
    )


def notes_of(scenario: Scenario, sale: Sale, snapshot: Snapshot, left_over: int) -> list[str]:
    """What a reader should know beside the figures."""
    notes = []
    if scenario.attempts_per_unit is None:
        was = sum(sku.stock for sku in scenario.sale.skus)
        now = sum(sku.stock for sku in sale.skus)
        if was != now:
            notes.append(f"stock is scaled with the attempts: {now:,} units for {was:,}")
    if left_over:
        notes.append(f"{left_over:,} later steps were still to come when the run ended")
    if held := sum(view.held for view in snapshot.skus.values()):
        notes.append(f"{held:,} units are still held: their deadlines are later")
    return notes


def address_of(url: str) -> str:
    """Host and port only: a URL may carry a password."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    try:
        return f"{parts.hostname}:{parts.port or 6379}"
    except ValueError:
        raise InvalidRequest("url", "must be redis://host:port") from None
