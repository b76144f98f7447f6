"""The strategies for callers' own tests: what is valid passes, what is hostile is refused."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashsale import testing
from flashsale.errors import InvalidRequest
from flashsale.models import Answer, Line, Sale, Sku
from flashsale.testing import OracleSale

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = T0 = 1_763_900_000_000
BASKET = {"red": 3, "blue": 1}
SALE = Sale("1111", skus=[Sku("red", 10), Sku("blue", 10)])


@given(testing.hostile_identifiers())
def test_every_hostile_identifier_is_refused_in_every_place(bad: object) -> None:
    oracle = OracleSale(SALE, now_ms=NOW)
    attempts: list[Callable[[], object]] = [
        lambda: Sale(bad, skus=[Sku("red", 1)]),  # type: ignore[arg-type]
        lambda: Sku(bad, 1),  # type: ignore[arg-type]
        lambda: Line(bad),  # type: ignore[arg-type]
        lambda: oracle.hold(bad, BASKET, hold_id="h", now_ms=NOW),  # type: ignore[arg-type]
        lambda: oracle.hold("ann", BASKET, hold_id=bad, now_ms=NOW),  # type: ignore[arg-type]
        lambda: oracle.release("ann", bad, now_ms=NOW),  # type: ignore[arg-type]
        lambda: oracle.restock({"red": 1}, op_id=bad, now_ms=NOW),  # type: ignore[arg-type]
    ]
    for attempt in attempts:
        with pytest.raises(InvalidRequest):
            attempt()
    assert len(oracle.entries) == 1


@given(testing.hostile_quantities())
def test_every_hostile_quantity_is_refused_and_the_sku_named(bad: object) -> None:
    oracle = OracleSale(SALE, now_ms=NOW)
    with pytest.raises(InvalidRequest, match="'red'"):
        oracle.hold("ann", {"red": bad}, hold_id="h", now_ms=NOW)  # type: ignore[dict-item]
    assert len(oracle.entries) == 1


@given(testing.hostile_baskets("red"))
def test_every_hostile_basket_is_refused(bad: object) -> None:
    oracle = OracleSale(SALE, now_ms=NOW)
    with pytest.raises(InvalidRequest):
        oracle.hold("ann", bad, hold_id="h", now_ms=NOW)  # type: ignore[arg-type]
    assert len(oracle.entries) == 1


@settings(max_examples=50)
@given(st.data())
def test_valid_strategies_make_what_a_sale_accepts(data: st.DataObject) -> None:
    sale = data.draw(testing.sales(around_ms=T0))
    oracle = OracleSale(sale, now_ms=T0)
    basket = data.draw(testing.baskets([sku.id for sku in sale.skus], max_qty=3))
    buyer, hold_id = data.draw(testing.identifiers()), data.draw(testing.identifiers())
    assert isinstance(oracle.hold(buyer, basket, hold_id=hold_id, now_ms=T0), Answer)
    oracle.check()


def test_the_oracle_works_without_hypothesis_and_a_strategy_says_what_is_missing() -> None:
    program = (
        "import sys\n"
        "sys.modules['hypothesis'] = None\n"
        "from flashsale.errors import ConfigurationError\n"
        "import flashsale.testing\n"
        "assert flashsale.testing.OracleSale\n"
        "try:\n"
        "    flashsale.testing.identifiers\n"
        "except ConfigurationError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "pip install hypothesis" in done.stdout


def test_the_public_names_exist_and_others_do_not() -> None:
    assert testing.__all__ == sorted(testing.__all__)
    assert all(getattr(testing, name) for name in testing.__all__)
    with pytest.raises(AttributeError):
        _ = testing.nothing
