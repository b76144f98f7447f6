"""Every bound in one place, and the checks that name the field and the rule."""

from __future__ import annotations

import re

from flashsale.errors import InvalidRequest

ID_MAX = 64
"""Characters of an identifier (sale, sku, buyer, hold id, op_id, reader, channel)."""

NOTE_MAX = 256
"""Bytes of a hold's note, in UTF-8."""

QTY_MAX = 1_000_000
"""Units of one line."""

STOCK_MAX = 10**12
"""Units of one sku: every sum of such numbers is exact in Lua's doubles."""

SKUS_MAX = 1_000
"""Skus of one sale."""

LINES_MAX = 32
"""Lines of one basket."""

HOLDS_MAX = 64
"""Hold ids one buyer may use in one sale: the bound of a buyer's record."""

REFUNDS_MAX = 16
"""Refunds of one hold."""

RESTOCKS_MAX = 10_000
"""Restocks of one sale, each remembered by its op_id."""

LAG_BUCKETS = 481
"""Buckets of reported lags: 250 ms each, and one for 120 s and more."""

CUES_MAX = 1_000
"""Cues of one sale."""

PLACES_MAX = 100_000_000
"""Numbers that a waiting room gives in all."""

PLACES_PER_HASH = 400_000
"""Places in one hash, about: a larger one keeps a server busy when it moves between nodes, with
smaller ones a batch takes more commands; so many fill a server's table before it doubles."""

HASHES_MAX = PLACES_MAX // PLACES_PER_HASH
"""Hashes of places of one waiting room."""

NUMBER_MIN = 0.000_001
"""The least rate, and the least conversion: a rate is told to the scripts with six decimals."""

RATE_MAX = 1_000_000
"""Places called a second."""

CONVERSION_MAX = 1_000
"""Units one turn takes, on average."""

TURN_SLOTS = 32
"""Turns that begin within this part of a turn's length end together."""

PRIOR_TURNS = 20
"""How many turns the assumed conversion counts for, beside those measured."""

TURN_UNITS = 10
"""How many times the assumed conversion, and that at least 1, one turn counts at most."""

BURST_S = 2
"""Seconds of the rate that may be called in one go, if nobody asked in between."""

LOOKS_MAX = 128
"""Places that one call of a script looks at, while some that were left may be among them."""

GLANCES_MAX = 8
"""Calls that a client's look at a waiting room is made of at most, if one does not get through."""

BUYERS_MAX = 10_000_000
"""Buyers of one shard."""

BATCH_MAX = 1_024
"""Operations in one script call."""

SWEEP_PER_CALL = 128
"""Due holds that any verb's script call expires on its way; the rest waits for the next."""

SWEEP_MAX = 1_024
"""Due holds that one call of `expire` may be asked to expire."""

READ_MAX = 64
"""Buyers' records that a script reads in one command: each may be long, and what it looks at is
counted in between."""

WALK_MAX = 64
"""Ledger entries that one sweep walks over."""

DURATION_MAX_MS = 30 * 24 * 3600 * 1000
"""30 days."""

TIME_MAX_MS = 9_999_999_999_999
"""The last time of thirteen digits, in the year 2286: records keep times in that width."""

CLOCK_JUMP_MAX_MS = 60_000
"""How far the server's clock may be ahead of both the shard's last time and the caller's."""

_ID = re.compile(rf"[A-Za-z0-9._~@+=/-]{{1,{ID_MAX}}}")
_TWO_IDS = re.compile(f"{_ID.pattern} {_ID.pattern}")
_ID_RULE = f"must be 1 to {ID_MAX} characters out of A-Z a-z 0-9 . _ ~ @ + = / -"


def check_id(field: str, value: object) -> str:
    """An identifier: the same small alphabet everywhere, so that nothing needs escaping."""
    if not isinstance(value, str):
        raise InvalidRequest(field, f"{_ID_RULE}, not {type(value).__name__}")
    if not _ID.fullmatch(value):
        shown = value if len(value) <= ID_MAX else f"{value[:16]}… ({len(value)} characters)"
        raise InvalidRequest(field, f"{_ID_RULE}, not {shown!a}")
    return value


def check_hold_ids(buyer: object, hold_id: object) -> None:
    """Both names of a hold, in one search: every call on a hold pays for this."""
    if type(buyer) is str and type(hold_id) is str and _TWO_IDS.fullmatch(f"{buyer} {hold_id}"):
        return
    check_id("buyer", buyer)
    check_id("hold_id", hold_id)


def check_int(field: str, value: object, low: int, high: int) -> int:
    """A whole number within bounds; True, 1.0 and "1" are not numbers here."""
    if type(value) is not int:
        raise InvalidRequest(field, f"must be an int from {low} to {high}, not {shown(value)}")
    if not low <= value <= high:
        raise InvalidRequest(field, f"must be from {low} to {high}, not {shown(value)}")
    return value


def check_share(field: str, value: object) -> float:
    """A number from 0 to 1."""
    if type(value) not in (int, float) or not 0 <= value <= 1:  # type: ignore[operator]
        raise InvalidRequest(field, f"must be a number from 0 to 1, not {shown(value)}")
    return float(value)  # type: ignore[arg-type]


def check_note(field: str, value: object) -> str:
    """A short opaque text: valid Unicode without NUL, at most NOTE_MAX bytes."""
    rule = f"must be a str of at most {NOTE_MAX} bytes in UTF-8, without NUL"
    if not isinstance(value, str):
        raise InvalidRequest(field, f"{rule}, not {type(value).__name__}")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidRequest(field, f"{rule} and without lone surrogates") from None
    if size > NOTE_MAX or "\0" in value:
        raise InvalidRequest(field, rule)
    return value


def shown(value: object) -> str:
    """A value as an error shows it: short, and printable whatever is in it."""
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
