"""Checks baskets and puts those of a batch into the form that travels.

Batches mostly share one basket, so the distinct ones travel once and every operation names
its own by number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import msgspec

from flashsale import limits
from flashsale.errors import InvalidRequest
from flashsale.models import Basket, Line

Lines = tuple[str | int, ...]
"""A checked basket, flat: sku, qty, sku, qty …, sorted by sku."""

WHOLE: Lines = ()
"""In place of a basket: the whole hold."""

encode = msgspec.msgpack.Encoder().encode


def check_basket(field: str, basket: Basket) -> Lines:
    """The lines of a basket, 1 to 32 of them, each sku once and a whole number of each."""
    if type(basket) is dict and len(basket) == 1:
        ((sku, qty),) = basket.items()
        if type(sku) is str and type(qty) is int:
            return _one_line(field, sku, qty)
    if isinstance(basket, Mapping):
        pairs: list[tuple[object, object]] = list(basket.items())
    elif isinstance(basket, Sequence) and not isinstance(basket, (str, bytes)):
        if not all(isinstance(line, Line) for line in basket):
            raise InvalidRequest(field, "must be a mapping of sku to qty, or a sequence of Line")
        pairs = [(line.sku, line.qty) for line in basket]
    else:
        rule = "must be a mapping of sku to qty, or a sequence of Line"
        raise InvalidRequest(field, f"{rule}, not {type(basket).__name__}")
    if not 1 <= len(pairs) <= limits.LINES_MAX:
        raise InvalidRequest(field, f"must have 1 to {limits.LINES_MAX} lines, not {len(pairs)}")
    found = limits.check_units(field, pairs, f"qty of {{!r}} in {field}", 1, limits.QTY_MAX)
    return tuple(value for pair in sorted(found.items()) for value in pair)


# Nearly every basket is one line out of a few, and its check costs ten times a look-up. What
# fails its check is not kept.
@lru_cache(maxsize=4_096)
def _one_line(field: str, sku: str, qty: int) -> Lines:
    sku = limits.check_id(f"sku in {field}", sku)
    return (sku, limits.check_int(f"qty of {sku!r} in {field}", qty, 1, limits.QTY_MAX))


def pack_baskets(baskets: Sequence[Lines]) -> bytes:
    """The argument that carries a batch's baskets; b"" if every hold is meant whole."""
    distinct = dict.fromkeys(baskets)
    distinct.pop(WHOLE, None)
    if not distinct:
        return b""
    number = {lines: n for n, lines in enumerate(distinct, 1)}
    if len(number) == 1 and all(baskets):
        return encode([list(number)])
    return encode([list(number), [number[lines] if lines else 0 for lines in baskets]])
