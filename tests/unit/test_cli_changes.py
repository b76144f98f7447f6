"""A change of stock as it is typed: SKU=+N or SKU=-N."""

from __future__ import annotations

import pytest

from flashsale import InvalidRequest
from flashsale.cli.steering import parse_changes


def test_a_change_has_a_sign_and_may_group_its_digits() -> None:
    assert parse_changes(["a=+5", "b=-1_000", "c=d=+0"]) == {"a": 5, "b": -1_000, "c=d": 0}


@pytest.mark.parametrize(
    "text",
    [
        "a=+1__000", "a=+_1", "a=+1_", "a=+_", "a=+", "a=5", "a", "a=+1.5", "a=+1e3", "a=+0x10",
        "a=+ 1", "a=+1 ", "a=++1", "a=+\u0663", "a=+" + "9" * 16, "a=+" + "1" * 5_000, "",
    ],
)  # fmt: skip
def test_whatever_python_would_not_read_as_a_number_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^change .*: must be SKU=\+N or SKU=-N") as error:
        parse_changes([text])
    assert str(error.value).isprintable()


def test_a_sku_is_named_once() -> None:
    with pytest.raises(InvalidRequest, match="'a' is named twice"):
        parse_changes(["a=+1", "a=-1"])
