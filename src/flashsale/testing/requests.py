"""How the oracle reads what it is asked: by the rules of the clients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from flashsale import limits
from flashsale.baskets import check_basket
from flashsale.errors import InvalidRequest
from flashsale.models import LATE, Answer, Hold, HoldRequest, Late
from flashsale.refs import Ref, parse_ref

if TYPE_CHECKING:
    from flashsale.models import Basket


def lines_of(field: str, basket: Basket) -> dict[str, int]:
    """A basket as units per sku."""
    flat = check_basket(field, basket)
    return {str(sku): int(qty) for sku, qty in zip(flat[::2], flat[1::2], strict=True)}


def changes_of(changes: Mapping[str, int]) -> dict[str, int]:
    """A restock's changes per sku, up or down and never zero."""
    if not isinstance(changes, Mapping):
        raise InvalidRequest("changes", "must be a mapping of sku to change")
    if not 1 <= len(changes) <= limits.SKUS_MAX:
        raise InvalidRequest("changes", f"must name 1 to {limits.SKUS_MAX} skus")
    bound = limits.STOCK_MAX
    found = limits.check_units("changes", changes.items(), "change of {!r}", -bound, bound)
    for sku, change in found.items():
        if change == 0:
            raise InvalidRequest(f"change of {sku!r}", "must not be 0")
    return found


def target_of(sale: str, hold: Answer | Hold | str) -> Ref:
    """The hold that an answer, a `Hold` or a ref is about."""
    target = parse_ref(hold if isinstance(hold, str) else hold.ref)
    if target.sale != sale:
        raise InvalidRequest("ref", f"is of sale {target.sale!r}, not of {sale!r}")
    return target


def check_late(late: str) -> Late:
    """The two ways to treat a payment that comes after the deadline."""
    return limits.check_choice("late", late, LATE)


def check_hold(request: HoldRequest) -> tuple[HoldRequest, dict[str, int]]:
    """A hold by plain names, and its lines."""
    buyer, hold_id = limits.check_new_hold_ids(request.buyer, request.hold_id)
    lines = lines_of("basket", request.basket)
    channel = limits.check_optional_id("channel", request.channel)
    note = limits.check_note("note", request.note)
    key = limits.check_optional_id("key", request.key)
    return HoldRequest(buyer, lines, hold_id, channel, note, key), lines
