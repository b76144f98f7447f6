"""What the machine draws: few of everything, so that ids collide and stock runs out."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from flashsale import HoldRequest, HoldState, Line, Sale, Sku
from flashsale.testing import hostile_baskets, hostile_identifiers, hostile_quantities

BUYERS = ("ann", "bob", "cyd")
HOLD_IDS = ("h1", "h2", "h3", "h4", "h5", "h6")
SKUS = ("red", "blue", "green")
NOT_A_SKU = "grey"

buyers = st.sampled_from(BUYERS)
hold_ids = st.sampled_from(HOLD_IDS)

targets = st.integers(0, 19)
"""Which hold a verb is about: see `ComparingMachine.target`."""

forms = st.sampled_from(["ids", "ids", "ref", "answer", "hold"])
"""How a caller names a hold."""

parts = st.sampled_from(
    ["whole", "whole", "all lines", "one unit", "the rest", "too much", "alien"]
)
"""Which lines of a hold are meant: see `ComparingMachine.lines`."""

unpaid = st.sampled_from([HoldState.HELD, HoldState.HELD, HoldState.EXPIRED])

lateness = st.sampled_from(["refuse", "retake"])

baskets = st.one_of(
    st.sampled_from([{"red": 1}, {"red": 2}, {"red": 1, "blue": 1}, {"blue": 2, "green": 1}]),
    st.dictionaries(st.sampled_from(SKUS), st.integers(1, 3), min_size=1, max_size=3),
    st.dictionaries(st.sampled_from((*SKUS, NOT_A_SKU)), st.integers(1, 3), min_size=1),
)
as_sent = st.tuples(baskets, st.booleans()).map(
    lambda drawn: [Line(sku, qty) for sku, qty in drawn[0].items()] if drawn[1] else drawn[0]
)
requests = st.builds(
    HoldRequest,
    buyer=buyers,
    basket=as_sent,
    hold_id=hold_ids,
    channel=st.sampled_from(["", "", "app", "partner/7"]),
    note=st.sampled_from(["", "", "19.90", "ein Gruß; a|b,c*2\r\n"]),
)
hostile_requests = st.one_of(
    st.builds(HoldRequest, hostile_identifiers(), baskets, hold_ids),
    st.builds(HoldRequest, buyers, baskets, hostile_identifiers()),
    st.builds(HoldRequest, buyers, hostile_baskets("red"), hold_ids),
    st.builds(HoldRequest, buyers, hostile_quantities().map(lambda qty: {"red": qty}), hold_ids),
)
changes = st.dictionaries(
    st.sampled_from((*SKUS, *SKUS, NOT_A_SKU)),
    st.sampled_from([-3, -2, -1, 1, 2, 3, 3, 10**12]),
    min_size=1,
    max_size=3,
)


@st.composite
def definitions(draw: st.DrawFn) -> dict[str, Any]:
    """A sale's definition but for its id; opening and closing are from now."""
    stock = st.sampled_from([0, 1, 2, 3, 5, 8, 20])
    limit = st.sampled_from([None, None, 1, 2, 3, 6])
    return {
        "skus": [Sku(sku, draw(stock), draw(limit)) for sku in SKUS],
        "hold_ttl_ms": draw(st.sampled_from([60_000, 60_000, 30, 80, 200])),
        "limit": draw(st.sampled_from([None, None, None, 3, 6])),
        "opens_at_ms": draw(st.sampled_from([None, None, None, -1_000, -1_000, 30])),
        "closes_at_ms": draw(st.sampled_from([None, None, None, 3_600_000, 3_600_000, 150])),
        "holds_max": draw(st.sampled_from([16, 16, 16, 2, 3])),
        "extend_max_ms": draw(st.sampled_from([3_600_000, 3_600_000, 50, 0])),
        "buyers_max": draw(st.sampled_from([1_000, 1_000, 1_000, 1_000, 2])),
    }


def from_now(sale_id: str, definition: dict[str, Any], now_ms: int) -> Sale:
    times = {
        name: None if definition[name] is None else now_ms + definition[name]
        for name in ("opens_at_ms", "closes_at_ms")
    }
    return Sale(sale_id, **{**definition, **times})
