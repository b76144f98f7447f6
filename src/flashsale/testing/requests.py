"""How the oracle reads what it is asked: by the rules of the clients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from flashsale import limits
from flashsale.baskets import check_basket
from flashsale.errors import InvalidRequest
from flashsale.models import Answer, Hold
from flashsale.refs import Ref, parse_ref

if TYPE_CHECKING:
    from flashsale.models import Basket, HoldRequest


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
    for sku, change in changes.items():
        limits.check_id("sku in changes", sku)
        limits.check_int(f"change of {sku!r}", change, -limits.STOCK_MAX, limits.STOCK_MAX)
        if change == 0:
            raise InvalidRequest(f"change of {sku!r}", "must not be 0")
    return dict(changes)


def check_hold_id(buyer: str, hold_id: str) -> None:
    """The two parts of a hold's key."""
    limits.check_id("buyer", buyer)
    limits.check_id("hold_id", hold_id)


def target_of(sale: str, hold: Answer | Hold | str) -> Ref:
    """The hold that an answer, a `Hold` or a ref is about."""
    target = parse_ref(hold if isinstance(hold, str) else hold.ref)
    if target.sale != sale:
        raise InvalidRequest("ref", f"is of sale {target.sale!r}, not of {sale!r}")
    return target


def check_late(late: str) -> None:
    """The two ways to treat a payment that comes after the deadline."""
    if late not in ("refuse", "retake"):
        raise InvalidRequest("late", f'must be "refuse" or "retake", not {late!r}')


def check_hold(request: HoldRequest) -> dict[str, int]:
    """Everything a hold names; its lines are returned."""
    check_hold_id(request.buyer, request.hold_id)
    lines = lines_of("basket", request.basket)
    if request.channel != "":
        limits.check_id("channel", request.channel)
    limits.check_note("note", request.note)
    if request.key != "":
        limits.check_id("key", request.key)
    return lines
