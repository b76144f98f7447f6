"""Every bound, at the bound and one beyond it; what is refused is named with its rule."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashsale import InvalidRequest, limits
from flashsale.testing import hostile_identifiers, identifiers

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~@+=/-"


def test_an_identifier_may_have_every_character_of_the_alphabet_and_no_other() -> None:
    def fits(character: str) -> bool:
        return accepted(lambda: limits.check_id("x", character))

    assert sorted(filter(fits, map(chr, range(0x2FFF)))) == sorted(ALPHABET)


def accepted(check: Callable[[], object]) -> bool:
    try:
        check()
    except InvalidRequest:
        return False
    return True


@given(identifiers())
def test_an_identifier_is_given_back_as_it_is(text: str) -> None:
    assert limits.check_id("buyer", text) == text


@given(hostile_identifiers())
def test_whatever_is_no_identifier_is_refused_in_a_short_printable_sentence(value: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        limits.check_id("buyer", value)
    assert caught.value.field == "buyer"
    assert caught.value.rule.startswith("must be 1 to 64 characters out of A-Z a-z 0-9 . _ ~ @")
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()


def test_an_identifier_that_is_too_long_is_shown_by_its_beginning_and_its_length() -> None:
    with pytest.raises(InvalidRequest, match="aaaa.* \\(1048576 characters\\)"):
        limits.check_id("buyer", "a" * (1 << 20))
    assert limits.check_id("buyer", "a" * 64)
    with pytest.raises(InvalidRequest):
        limits.check_id("buyer", "a" * 65)


@given(st.integers(-5, 15))
def test_a_whole_number_is_taken_within_its_bounds_and_refused_beyond(value: int) -> None:
    assert accepted(lambda: limits.check_int("n", value, 1, 10)) is (1 <= value <= 10)


@pytest.mark.parametrize("value", [True, 1.0, "1", None, b"1", 1j, [1], float("nan")], ids=repr)
def test_nothing_but_an_int_is_a_number(value: object) -> None:
    with pytest.raises(InvalidRequest, match=r"^n: must be an int from 0 to 9, not "):
        limits.check_int("n", value, 0, 9)


def test_a_subclass_of_int_is_no_number_either() -> None:
    class Units(int):
        pass

    with pytest.raises(InvalidRequest):
        limits.check_int("n", Units(1), 0, 9)


def test_a_huge_number_is_shown_shortly() -> None:
    with pytest.raises(InvalidRequest) as caught:
        limits.check_int("n", 10**1_000, 0, 9)
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize("note", ["", "n" * 256, "€" * 85, "a\r\n}{|;\t", "\u202e", "🛒" * 64])
def test_a_note_is_any_text_of_at_most_256_bytes(note: str) -> None:
    assert limits.check_note("note", note) == note


@pytest.mark.parametrize("note", ["n" * 257, "€" * 86, "🛒" * 65, "\0", "\ud800", None, b"", 7])
def test_a_longer_note_or_one_that_is_no_text_is_refused(note: object) -> None:
    with pytest.raises(InvalidRequest, match="^note: must be a str of at most 256 bytes in UTF-8"):
        limits.check_note("note", note)


def test_every_sum_of_units_that_can_occur_is_exact_in_a_double() -> None:
    largest_sum = limits.STOCK_MAX + limits.BATCH_MAX * limits.LINES_MAX * limits.QTY_MAX
    assert largest_sum < 2**53
    assert limits.TIME_MAX_MS + limits.DURATION_MAX_MS < 2**53


def test_what_lua_unpacks_at_once_stays_below_what_it_can() -> None:
    """Two values a buyer, of a whole batch and of what may be swept beside it."""
    swept = max(limits.SWEEP_PER_CALL, limits.SWEEP_MAX) - 1 + limits.BATCH_MAX
    assert 2 * (limits.BATCH_MAX + limits.SWEEP_PER_CALL + limits.BATCH_MAX) < 8_000
    assert 2 * swept < 8_000
    assert 6 * limits.SKUS_MAX < 8_000


# --- a check returns what may be used ------------------------------------------------------

SOURCES = sorted((Path(__file__).parents[2] / "src" / "flashsale").rglob("*.py"))
RETURNS_TEXT = re.compile(
    "check_(id|optional_id|hold_ids|cue_id|note|choice|late|number|share|rate|time|units|sequence"
    "|basket|hold|join)"
)


def test_the_value_of_a_check_is_always_used() -> None:
    """Whoever drops it goes on with what a caller gave: a subclass that is more than its text."""
    dropped = [
        f"{path.name}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
        for name in [ast.unparse(node.value.func).rpartition(".")[2].lstrip("_")]
        if RETURNS_TEXT.fullmatch(name)
    ]
    assert not dropped


class Loud(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "loud"


@pytest.mark.parametrize(
    "check",
    [
        partial(limits.check_id, "f"),
        partial(limits.check_optional_id, "f"),
        partial(limits.check_note, "f"),
        partial(limits.check_choice, "f", choices=("text", "other")),
        lambda value: limits.check_hold_ids(value, "h")[0],
        lambda value: limits.check_hold_ids("b", value)[1],
        lambda value: next(iter(limits.check_units("f", [(value, 1)], "{}", 1, 2))),
    ],
)
def test_a_check_of_text_returns_the_plain_text(check: Callable[[Any], str]) -> None:
    found = check(Loud("text"))
    assert (found, type(found)) == ("text", str)


def test_a_number_is_a_plain_float_within_its_bounds() -> None:
    class Half(float):
        pass

    found = limits.check_number("n", Half(0.5), 0, 1)
    assert (found, type(found)) == (0.5, float)
    assert math.copysign(1, limits.check_number("n", -0.0, 0, 1)) == 1
    for bad in (True, "1", None, 1.5, -1, 10**400, float("nan"), float("inf"), 1j):
        with pytest.raises(InvalidRequest, match="^n: must be a number from 0 to 1, not "):
            limits.check_number("n", bad, 0, 1)


def test_an_error_shows_any_value_shortly_whatever_its_own_code_does() -> None:
    class Angry:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    assert limits.shown(Angry()) == "a Angry that cannot be shown"
    assert limits.shown(10**5_000) == "a int that cannot be shown"


# --- points in time ------------------------------------------------------------------------


@pytest.mark.parametrize("value", [10**12, 1_763_900_000_000, 9_999_999_999_999])
def test_a_time_is_taken_from_2001_on(value: int) -> None:
    assert limits.check_time("at", value) == value


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        (1_763_900_000, "seconds"),
        (1_763_900_000.25, "seconds"),
        (1_763_900_000_000_000, "microseconds"),
        (1_763_900_000_000_000_000, "nanoseconds"),
    ],
)
def test_a_time_in_another_unit_is_refused_and_the_mistake_is_named(
    value: object, unit: str
) -> None:
    with pytest.raises(InvalidRequest, match=f"^at: must be .*: it looks like {unit}, give milli"):
        limits.check_time("at", value)


@pytest.mark.parametrize("value", [0, -1, 10**12 - 1, 10**13, True, "1763900000000", None])
def test_what_is_no_time_is_refused_by_its_bounds(value: object) -> None:
    with pytest.raises(InvalidRequest, match="^at: must be .*from 1000000000000 to 9999999999999"):
        limits.check_time("at", value)


def test_a_position_may_be_small_but_not_the_seconds_of_what_is_told_in_milliseconds() -> None:
    now_ms = 1_763_900_000_000
    for position in (0, 7_000_000, now_ms, 5_000_000_000):
        assert limits.check_position("at", position, now_ms) == position
    assert limits.check_position("at", 7_000, 7_000_000) == 7_000  # a timeline of its own
    for seconds in (1_763_900_000, 1_763_900_000 + 3_600):
        with pytest.raises(InvalidRequest, match="^at: must be milliseconds, .*like seconds"):
            limits.check_position("at", seconds, now_ms)
