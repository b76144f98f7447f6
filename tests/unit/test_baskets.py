"""Baskets: checked, put in order, and packed once for a whole batch."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.hostile import BASKETS, IDENTIFIERS, QUANTITIES
from flashsale import InvalidRequest, Line
from flashsale.baskets import WHOLE, Lines, check_basket, pack_baskets
from flashsale.testing import baskets, hostile_baskets

SKUS = [f"sku-{n}" for n in range(40)]


@given(baskets(SKUS))
def test_a_basket_becomes_its_lines_in_the_order_of_their_skus(basket: Any) -> None:
    lines = check_basket("basket", basket)
    flat = basket if isinstance(basket, dict) else {line.sku: line.qty for line in basket}
    assert lines == tuple(value for pair in sorted(flat.items()) for value in pair)


@given(st.permutations([Line("c", 3), Line("a", 1), Line("b", 2)]))
def test_the_order_of_lines_does_not_count(basket: list[Line]) -> None:
    assert check_basket("basket", basket) == ("a", 1, "b", 2, "c", 3)
    as_mapping = {line.sku: line.qty for line in basket}
    assert check_basket("basket", as_mapping) == ("a", 1, "b", 2, "c", 3)


@given(hostile_baskets())
def test_whatever_is_no_basket_is_refused(basket: Any) -> None:
    with pytest.raises(InvalidRequest):
        check_basket("basket", basket)


@pytest.mark.parametrize("name", BASKETS)
def test_what_is_no_basket_is_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^lines: (must |names the sku 'red' twice)"):
        check_basket("lines", BASKETS[name])


@pytest.mark.parametrize("name", QUANTITIES)
def test_the_quantity_that_is_wrong_is_named_with_its_sku(name: str) -> None:
    with pytest.raises(InvalidRequest, match="^qty of 'b' in basket: must be .*from 1 to 1000000"):
        check_basket("basket", {"a": 1, "b": QUANTITIES[name]})


@pytest.mark.parametrize("name", [n for n in IDENTIFIERS if n != "a tuple"])
def test_the_sku_that_is_wrong_is_named(name: str) -> None:
    with pytest.raises(InvalidRequest, match="^sku in basket: must be 1 to 64 characters"):
        check_basket("basket", {"a": 1, IDENTIFIERS[name]: 1})


def test_lines_that_are_no_structs_are_refused_even_after_good_ones() -> None:
    with pytest.raises(InvalidRequest, match="^basket: must be a mapping of sku to qty, or a seq"):
        check_basket("basket", [Line("a"), ("b", 1)])  # type: ignore[list-item]


def unpack(packed: bytes, count: int) -> list[Lines]:
    """What the scripts make of it."""
    if not packed:
        return [WHOLE] * count
    distinct, *rest = msgspec.msgpack.decode(packed)
    which = rest[0] if rest else [1] * count
    return [tuple(distinct[number - 1]) if number else WHOLE for number in which]


LINES = st.sampled_from([WHOLE, ("a", 1), ("a", 2), ("b", 1), ("a", 1, "b", 1)])


@given(st.lists(LINES, min_size=1, max_size=20))
def test_packed_baskets_say_of_every_operation_which_is_its_own(batch: list[Lines]) -> None:
    assert unpack(pack_baskets(batch), len(batch)) == batch


@given(st.lists(LINES, min_size=1, max_size=20))
def test_every_distinct_basket_travels_once_and_none_that_nobody_has(batch: list[Lines]) -> None:
    packed = pack_baskets(batch)
    travelling = [tuple(b) for b in msgspec.msgpack.decode(packed)[0]] if packed else []
    assert sorted(travelling) == sorted({lines for lines in batch if lines})


def test_a_batch_of_one_basket_needs_no_numbers_and_whole_holds_need_nothing() -> None:
    assert msgspec.msgpack.decode(pack_baskets([("a", 1)] * 256)) == [[["a", 1]]]
    assert pack_baskets([WHOLE] * 256) == b""
