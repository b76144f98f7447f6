"""Every bound, at the bound and one beyond it; what is refused is named with its rule."""

from __future__ import annotations

from collections.abc import Callable

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
