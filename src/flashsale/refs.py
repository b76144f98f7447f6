"""A hold's reference: sale, buyer and hold id in one string for other systems.

Payment providers' order fields take letters, digits, "_" and "-". Any other byte of a
part is written as "_" and two hexadecimal digits, and "__" stands between the parts, so
"1111", "buyer-42", "order-77" gives "1111__buyer-42__order-77". That is at most 580 characters
(`limits.REF_MAX`); some providers take 64, some 32. Where a service's ids are too long for its
provider, the provider is given the service's own order number, which is stored with the order's
sale, buyer and hold id and looked up when the payment is reported:

    answer = await sale.hold(buyer, basket, hold_id=order.number)  # pay under order.number
    await shop.sale(order.sale).confirm(order.buyer, order.number)  # when it is paid
"""

from __future__ import annotations

import re
from typing import NamedTuple

from flashsale.errors import InvalidRequest
from flashsale.limits import REF_MAX, SHORT_REF_MAX, check_id, plain_text

_PLAIN = re.compile(r"[^A-Za-z0-9-]")
_ESCAPED = re.compile(r"_([0-9A-F]{2})")


class Ref(NamedTuple):
    """The three parts of a reference."""

    sale: str
    buyer: str
    hold_id: str


def make_ref(sale: str, buyer: str, hold_id: str) -> str:
    """The reference of a hold; "" for an answer that is not about a hold."""
    if not buyer:
        return ""
    return "__".join(
        _PLAIN.sub(lambda match: f"_{ord(match[0]):02X}", part) for part in (sale, buyer, hold_id)
    )


def make_short_ref(sale: str, buyer: str, hold_id: str) -> str:
    """The reference, if it fits into 32 characters; InvalidRequest naming the ids' lengths if not.

    It is not shortened: what is cut off or hashed could not be read back by another process.
    """
    ref = make_ref(sale, buyer, hold_id)
    if len(ref) > SHORT_REF_MAX:
        parts = f"sale {len(sale)}, buyer {len(buyer)}, hold id {len(hold_id)}"
        rule = f"must be at most {SHORT_REF_MAX} characters, and of these ids ({parts}) it has"
        way = "give the provider an order number of your own"
        raise InvalidRequest("short_ref", f"{rule} {len(ref)}: shorten the ids, or {way}")
    return ref


def parse_ref(ref: str) -> Ref:
    """Read a reference back; InvalidRequest if it is not one of ours."""
    text = plain_text(ref) if isinstance(ref, str) else ""
    parts = text.split("__")
    if len(parts) != 3 or len(text) > REF_MAX:
        rule = "must be the `ref` of an answer (sale__buyer__hold-id)"
        raise InvalidRequest("ref", f"{rule}; with a buyer, pass hold_id too")
    names = ("sale in ref", "buyer in ref", "hold id in ref")
    found = Ref(
        *(
            check_id(name, _ESCAPED.sub(lambda match: chr(int(match[1], 16)), part))
            for name, part in zip(names, parts, strict=True)
        )
    )
    if make_ref(*found) != text:
        raise InvalidRequest("ref", "must be the `ref` of an answer, unchanged")
    return found
