"""Tickets: only the one that was given, whole and unchanged, says anything."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashsale.errors import ConfigurationError
from flashsale.keyring import Key, Keyring
from flashsale.tokens import Ticket, read_ticket, sign_ticket

OLD, NEW = Key("2025", bytes(range(32))), Key("2026", bytes(range(1, 33)))
TICKET = Ticket(7, 1_700_000_000_000, 1_700_000_060_000)
TEXT = sign_ticket(NEW, "1111", "ann", TICKET)
RING = Keyring([NEW])

OWN = "must be this buyer's own, for this sale, unchanged"
LENGTH = "must be a str of 1 to 192 characters"
NOT_BASE64 = "must be a ticket as it was given: this is not base64"
CHANGED = "must be a ticket as it was given, unchanged"
WHOLE = "must be a whole ticket of format 1"
UNKNOWN_KEY = "must be signed with a key that is known here"
RULES = {OWN, LENGTH, NOT_BASE64, CHANGED, WHOLE, UNKNOWN_KEY}

IDS = st.text("abzAZ09._~@+=/-", min_size=1, max_size=64)


def read(text: object, *, ring: Keyring = RING, sale: str = "1111", buyer: str = "ann") -> Any:
    return read_ticket(ring, sale, buyer, text)


def raw_of(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def text_of(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def test_a_ticket_says_what_was_signed_as_often_as_it_is_read() -> None:
    assert [read(TEXT) for _ in range(3)] == [TICKET] * 3
    assert TEXT.replace("-", "").replace("_", "").isalnum()


@given(
    sale=IDS,
    buyer=IDS,
    number=st.integers(0, 2**63),
    issued=st.integers(0, 9_999_999_999_999),
    expires=st.integers(0, 9_999_999_999_999),
    key_id=IDS,
)
def test_any_ticket_is_read_as_it_was_signed_and_fits_its_bound(
    sale: str, buyer: str, number: int, issued: int, expires: int, key_id: str
) -> None:
    key, ticket = Key(key_id, bytes(32)), Ticket(number, issued, expires)
    text = sign_ticket(key, sale, buyer, ticket)
    assert len(text) <= 192
    assert read_ticket(Keyring([key]), sale, buyer, text) == ticket


@given(IDS, IDS, IDS, IDS)
def test_a_ticket_is_good_for_its_own_buyer_and_sale_alone(
    sale: str, buyer: str, other_sale: str, other_buyer: str
) -> None:
    text = sign_ticket(NEW, sale, buyer, TICKET)
    told = read_ticket(RING, other_sale, other_buyer, text)
    assert told == (TICKET if (sale, buyer) == (other_sale, other_buyer) else OWN)


def test_names_that_run_into_each_other_are_told_apart() -> None:
    text = sign_ticket(NEW, "ab", "c", TICKET)
    assert read(text, sale="a", buyer="bc") == OWN
    assert read(text, sale="abc", buyer="") == OWN


def test_every_flipped_bit_makes_a_ticket_worthless() -> None:
    expected = {0: WHOLE, 1: WHOLE} | dict.fromkeys(range(2, 2 + len(NEW.id)), UNKNOWN_KEY)
    for bit in range(8 * len(raw_of(TEXT))):
        raw = bytearray(raw_of(TEXT))
        raw[bit // 8] ^= 1 << bit % 8
        assert read(text_of(bytes(raw))) == expected.get(bit // 8, OWN)


def test_every_other_character_in_any_place_makes_it_worthless() -> None:
    for at in range(len(TEXT)):
        for other in "AQgw9-_~.=+/ \n\u0663":
            if other != TEXT[at]:
                assert read(TEXT[:at] + other + TEXT[at + 1 :]) in RULES


def test_a_ticket_cut_at_any_length_is_worthless_from_either_end() -> None:
    for length in range(len(TEXT)):
        assert read(TEXT[:length]) in RULES
        assert read(TEXT[len(TEXT) - length :]) in RULES


def test_the_other_alphabet_of_base64_is_no_ticket_either() -> None:
    key = next(key for n in range(256) if "-" in signed(key := Key("k", bytes([n] * 32))))
    text = signed(key)
    for other in (text.replace("-", "+"), text.replace("_", "/").replace("-", "+")):
        assert read(other, ring=Keyring([key])) in (CHANGED, NOT_BASE64)


def signed(key: Key) -> str:
    return sign_ticket(key, "1111", "ann", TICKET)


def test_bytes_cut_at_any_length_are_no_whole_ticket() -> None:
    for length in range(len(raw_of(TEXT))):
        assert read(text_of(raw_of(TEXT)[:length])) == (LENGTH if length == 0 else WHOLE)


@pytest.mark.parametrize("more", ["A", "AA", "=", "==", "====", " ", "\n", "\0", ".", "-"])
def test_padding_blanks_and_anything_more_are_refused(more: str) -> None:
    for text in (TEXT + more, more + TEXT, TEXT[:20] + more + TEXT[20:]):
        assert read(text) in RULES


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", LENGTH),
        ("A" * 193, LENGTH),
        ("A" * (1 << 20), LENGTH),
        (None, LENGTH),
        (7, LENGTH),
        (True, LENGTH),
        (TEXT.encode(), LENGTH),
        ([TEXT], LENGTH),
        ("ticket\u00e9", NOT_BASE64),
        ("\u0663" * 40, NOT_BASE64),
        ("a\ud800", NOT_BASE64),
        ("\0" * 40, NOT_BASE64),
        (" " + TEXT, NOT_BASE64),
        (TEXT + "\r\n", NOT_BASE64),
        ("A" * 5, NOT_BASE64),
        (TEXT + "=", CHANGED),
        ("A" * 44, WHOLE),
        ("_" * 44, WHOLE),
    ],
    ids=lambda value: ascii(value)[:24],
)
def test_what_is_no_ticket_breaks_the_rule_that_it_is_told(text: object, rule: str) -> None:
    assert read(text) == rule


@given(st.text(max_size=300) | st.binary(max_size=300).map(text_of))
def test_any_text_is_refused_by_a_rule_and_raises_nothing(text: str) -> None:
    assert read(text) in RULES


def test_a_key_still_in_the_list_verifies_and_a_removed_one_does_not() -> None:
    text = sign_ticket(OLD, "1111", "ann", TICKET)
    assert read(text, ring=Keyring([NEW, OLD])) == TICKET
    assert read(text, ring=Keyring([NEW])) == UNKNOWN_KEY
    assert read(text, ring=Keyring([])) == UNKNOWN_KEY


def test_another_secret_under_a_known_id_signs_nothing_here() -> None:
    forged = sign_ticket(Key(NEW.id, bytes(32)), "1111", "ann", TICKET)
    assert read(forged) == OWN


def test_a_ticket_said_to_be_of_another_known_key_is_refused() -> None:
    raw = raw_of(TEXT)
    renamed = raw[:2] + OLD.id.encode() + raw[2 + len(NEW.id) :]
    assert read(text_of(renamed), ring=Keyring([NEW, OLD])) == OWN


def test_a_key_id_that_is_no_text_is_an_unknown_key() -> None:
    raw = raw_of(TEXT)
    assert read(text_of(raw[:2] + b"\xff\xfe\xfd\xfc" + raw[6:])) == UNKNOWN_KEY


def test_the_parts_of_a_ticket_cannot_be_moved_into_each_other() -> None:
    # A longer key id that would leave the same bytes in all.
    raw = bytearray(raw_of(TEXT))
    raw[1] += 1
    assert read(text_of(bytes(raw))) == WHOLE
    assert read(text_of(bytes(raw) + b"\0")) == UNKNOWN_KEY


# --- keys ---------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [b"", bytes(31), bytes(1_025), "x" * 32, bytearray(32), None])
def test_a_secret_of_another_length_or_kind_is_refused(secret: Any) -> None:
    with pytest.raises(ConfigurationError, match="must be 32 to 1,024 bytes"):
        Key("k", secret)


@pytest.mark.parametrize(
    "keys", ["k", b"k", NEW, ["k"], [NEW, None], [NEW, Key(NEW.id, bytes(32))]]
)
def test_what_is_no_list_of_keys_is_refused(keys: Any) -> None:
    with pytest.raises(ConfigurationError, match="keys:"):
        Keyring(keys)


def test_the_secret_is_in_no_text_that_may_be_logged() -> None:
    for text in (repr(NEW), str(NEW), TEXT):
        assert NEW.secret.hex() not in text
        assert repr(NEW.secret)[2:-1] not in text
