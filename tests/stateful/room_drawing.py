"""What the machine of the waiting room draws: few of everything, so that places are short."""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import strategies as st

from flashsale import HoldRequest, JoinRequest
from flashsale.testing import OracleSale, hostile_identifiers
from stateful.drawing import BUYERS, definitions, hold_ids

CROWD = (*BUYERS, "dan", "eve", "fay")

members = st.sampled_from(CROWD)
keys = st.sampled_from(["", "", "", "tv", "pad"])
joins = st.builds(JoinRequest, members, keys)
hostile_joins = st.builds(JoinRequest, hostile_identifiers(), keys) | st.builds(
    JoinRequest, members, hostile_identifiers().filter(lambda key: key != "")
)
takes = st.builds(
    HoldRequest,
    buyer=members,
    basket=st.sampled_from(
        [{"red": 1}] * 4 + [{"red": 2, "blue": 1}, {"grey": 1}, {"red": 12}, {"red": 10**6}]
    ),
    hold_id=hold_ids,
    key=keys,
)
which_ticket = st.sampled_from(
    ["none", "none", "newest", "newest", "oldest", "a number ahead", "not issued yet", "expired"]
)


@st.composite
def guarded_sales(draw: st.DrawFn) -> dict[str, Any]:
    """A sale's definition, mostly one that only lets in who was admitted."""
    guarded = {
        "admission": draw(st.sampled_from([True, True, True, False])),
        "key_holds_max": draw(st.sampled_from([None, None, 1, 3])),
        "hold_ttl_ms": draw(st.sampled_from([60_000, 200])),
        "opens_at_ms": draw(st.sampled_from([None, None, None, -1_000, 30])),
        "closes_at_ms": draw(st.sampled_from([None, None, None, None, 3_600_000, 90_000])),
    }
    return draw(definitions()) | guarded


@st.composite
def rooms(draw: st.DrawFn) -> dict[str, Any]:
    """A room's definition; its opening is from now."""
    return {
        "rate_per_s": draw(st.sampled_from([1_000, 1_000, 100, 7.3, 0.5])),
        "opens_at_ms": draw(st.sampled_from([None, 100, 100, 70_000])),
        "turn_ttl_ms": draw(st.sampled_from([3_200, 3_200, 1_000, 100, 31])),
        "conversion": draw(st.sampled_from([0.5, 1, 1, 2, 0.013])),
        "margin": draw(st.sampled_from([0.1, 0, 1])),
        "places_max": draw(st.sampled_from([1_000_000, 1_000_000, 6])),
        "key_places_max": draw(st.sampled_from([None, None, 1, 2])),
        "ticket_ttl_ms": draw(st.sampled_from([86_400_000, 86_400_000, 2_000])),
    }


class Move(NamedTuple):
    """One of several calls that are made at the same time."""

    verb: str
    buyer: str
    hold_id: str = ""

    def ask(self, sale: Any) -> Any:
        """Of a client's handle, or its coroutine."""
        if self.verb == "hold":
            return sale.hold(self.buyer, {"red": 1}, hold_id=self.hold_id)
        return getattr(sale.queue, self.verb)(self.buyer)

    def model(self, oracle: OracleSale, now_ms: int) -> Any:
        """What the oracle says to it."""
        if self.verb == "hold":
            return oracle.hold(self.buyer, {"red": 1}, hold_id=self.hold_id, now_ms=now_ms)
        return getattr(oracle.queue, self.verb)(self.buyer, now_ms=now_ms)
