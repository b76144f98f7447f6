"""Every bound in one place, and the checks that name the field and the rule.

A check returns a plain value, and only that may be used: a subclass of str (an enum, a framework's
safe string) may print, compare, hash and encode as something else than it holds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import force_setattr

from flashsale.errors import InvalidRequest

T = TypeVar("T", bound=str)

ID_MAX = 64
"""Characters of an identifier (sale, sku, buyer, hold id, op_id, reader, channel)."""

HOLD_PREFIX = "cue~"
"""Hold ids that begin so are those of cues' winners: `cue~` and the cue's. No caller holds one."""

REF_MAX = 3 * 3 * ID_MAX + 4
"""Characters of a hold's `ref`: three identifiers, each character written as three at most."""

SHORT_REF_MAX = 32
"""Characters of a `short_ref`: as many as the strictest payment providers' order fields take."""

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

EXTENDS_MAX = 64
"""How often a hold's deadline may be moved: each time is a ledger entry and a write."""

REFUNDS_MAX = 16
"""Refunds of one hold."""

RECORD_MAX = 32_768
"""Bytes of a buyer's record beyond which a hold takes a first refund and no further one."""

RESTOCKS_MAX = 10_000
"""Restocks of one sale, each remembered by its op_id."""

LAG_BUCKETS = 481
"""Buckets of reported lags: 250 ms each, and one for 120 s and more."""

CUES_MAX = 1_000
"""Cues of one sale."""

ENTRY_BYTES = 128
"""Ids, baskets and keys of a cue's entries together: so much for each of its entries_max,"""

ENTRIES_BYTES_LEAST = 65_536
"""and at least so much."""

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

SHORT_READ_MAX = 32
"""The same where what follows is much work for each of them: they may be the longest there are."""

WALK_MAX = 64
"""Ledger entries that one sweep walks over."""

WORK_MAX = 6_144
"""What one call of a script looks at before it leaves the rest of its batch for the next, in units
of about a microsecond: records, holds and lines, not results."""

LOOP_MAX = 256
"""Operations that an exact loop judges in one call."""

CALL_LINES_MAX = 768
"""Lines of baskets in one script call, rounded up to a whole operation."""

DAY_MS = 24 * 3600 * 1000

DURATION_MAX_MS = 30 * DAY_MS
"""30 days."""

TIME_MIN_MS = 1_000_000_000_000
"""The first time of thirteen digits, in September 2001: what is given in seconds lies before it."""

TIME_MAX_MS = 9_999_999_999_999
"""The last time of thirteen digits, in the year 2286: records keep times in that width."""

CLOCK_JUMP_MAX_MS = 60_000
"""How far the server's clock may be ahead of both the shard's last time and the caller's."""

_OTHER_UNITS = {"seconds": 10, "microseconds": 16, "nanoseconds": 19}
"""How many digits a time of our days has."""

_ID = re.compile(rf"[A-Za-z0-9._~@+=/-]{{1,{ID_MAX}}}")
_TWO_IDS = re.compile(f"{_ID.pattern} {_ID.pattern}")
_NEW_IDS = re.compile(f"{_ID.pattern} (?!{HOLD_PREFIX}){_ID.pattern}")
_ID_RULE = f"must be 1 to {ID_MAX} characters out of A-Z a-z 0-9 . _ ~ @ + = / -"


def plain_text(value: str) -> str:
    """The text that a str holds. Not `str(value)` or `format`: an enum's say its name."""
    return str.__str__(value) if type(value) is not str and isinstance(value, str) else value


def check_id(field: str, value: object) -> str:
    """An identifier: the same small alphabet everywhere, so that nothing needs escaping."""
    if not isinstance(value, str):
        raise InvalidRequest(field, f"{_ID_RULE}, not {type(value).__name__}")
    text = plain_text(value)
    if not _ID.fullmatch(text):
        told = text if len(text) <= ID_MAX else f"{text[:16]}… ({len(text)} characters)"
        raise InvalidRequest(field, f"{_ID_RULE}, not {told!a}")
    return text


def check_optional_id(field: str, value: object) -> str:
    """An identifier, or "" for none."""
    if isinstance(value, str) and plain_text(value) == "":
        return ""
    return check_id(field, value)


def check_hold_ids(buyer: object, hold_id: object) -> tuple[str, str]:
    """Both names of a hold, in one search: every call on a hold pays for this."""
    if type(buyer) is str and type(hold_id) is str and _TWO_IDS.fullmatch(f"{buyer} {hold_id}"):
        return buyer, hold_id
    return check_id("buyer", buyer), check_id("hold_id", hold_id)


def check_new_hold_ids(buyer: object, hold_id: object) -> tuple[str, str]:
    """Both names of a hold that a caller wants to take: none that a cue's winner may get."""
    if type(buyer) is str and type(hold_id) is str and _NEW_IDS.fullmatch(f"{buyer} {hold_id}"):
        return buyer, hold_id
    names = check_hold_ids(buyer, hold_id)
    if names[1].startswith(HOLD_PREFIX):
        raise InvalidRequest("hold_id", f'must not begin with "{HOLD_PREFIX}": winners\' holds do')
    return names


def check_choice(field: str, value: object, choices: tuple[T, ...]) -> T:
    """One of a few words, as it is written here."""
    text = plain_text(value) if isinstance(value, str) else None
    for choice in choices:
        if choice == text:
            return choice
    told = " or ".join(f'"{choice}"' for choice in choices)
    raise InvalidRequest(field, f"must be {told}, not {shown(value)}")


def check_int(field: str, value: object, low: int, high: int) -> int:
    """A whole number within bounds; True, 1.0 and "1" are not numbers here."""
    if type(value) is not int:
        raise InvalidRequest(field, f"must be an int from {low} to {high}, not {shown(value)}")
    if not low <= value <= high:
        raise InvalidRequest(field, f"must be from {low} to {high}, not {shown(value)}")
    return value


def check_time(field: str, value: object) -> int:
    """A point in time, in milliseconds since 1970; seconds are the commonest mistake with it."""
    try:
        return check_int(field, value, TIME_MIN_MS, TIME_MAX_MS)
    except InvalidRequest as refusal:
        for unit, digits in _OTHER_UNITS.items():
            if isinstance(value, (int, float)) and 10 ** (digits - 1) <= value < 10**digits:
                rule = f"{refusal.rule}: it looks like {unit}, give milliseconds since 1970"
                raise InvalidRequest(field, rule) from None
        raise


def check_position(field: str, value: object, same_ms: int) -> int:
    """A position on a media timeline, 0 and up, which need not be a time since 1970.

    If it is one, `same_ms` is a time of about the same moment: what is that in seconds is refused.
    """
    ms = check_int(field, value, 0, TIME_MAX_MS)
    if same_ms >= TIME_MIN_MS and abs(ms * 1_000 - same_ms) < DAY_MS:
        raise InvalidRequest(field, f"must be milliseconds, not {ms}: it looks like seconds")
    return ms


def check_units(
    field: str, pairs: Iterable[tuple[object, object]], label: str, low: int, high: int
) -> dict[str, int]:
    """Numbers of units by sku, each sku once; `label` names one in an error, {} being its sku.

    A mapping may have a sku twice, too: a subclass of str may have a hash of its own.
    """
    found: dict[str, int] = {}
    for name, units in pairs:
        sku = check_id(f"sku in {field}", name)
        if sku in found:
            raise InvalidRequest(field, f"names the sku {sku!r} twice")
        found[sku] = check_int(label.format(sku), units, low, high)
    return found


def check_number(field: str, value: object, low: float, high: float) -> float:
    """A number within bounds, never -0.0; True, "1" and what is not finite are none."""
    rule = f"must be a number from {_decimal(low)} to {_decimal(high)}"
    if isinstance(value, float):
        number = float.__float__(value)
    elif type(value) is int:
        number = float(value) if abs(value) <= 2**53 else math.inf
    else:
        raise InvalidRequest(field, f"{rule}, not {shown(value)}")
    if not low <= number <= high:
        raise InvalidRequest(field, f"{rule}, not {shown(value)}")
    return number + 0.0


def _decimal(number: float) -> str:
    return f"{number:.6f}".rstrip("0").rstrip(".")


def check_share(field: str, value: object) -> float:
    """A number from 0 to 1."""
    return check_number(field, value, 0, 1)


def check_note(field: str, value: object) -> str:
    """A short opaque text: valid Unicode without NUL, at most NOTE_MAX bytes."""
    rule = f"must be a str of at most {NOTE_MAX} bytes in UTF-8, without NUL"
    if not isinstance(value, str):
        raise InvalidRequest(field, f"{rule}, not {type(value).__name__}")
    text = plain_text(value)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidRequest(field, f"{rule} and without lone surrogates") from None
    if size > NOTE_MAX or "\0" in text:
        raise InvalidRequest(field, rule)
    return text


def check_fields(
    model: Struct,
    bounds: Mapping[str, tuple[int, int]],
    *,
    optional: Collection[str] = (),
) -> None:
    """Check whole numbers of a model that is being made, and keep the plain ones in it."""
    for field, (low, high) in bounds.items():
        value = getattr(model, field)
        if value is not None or field not in optional:
            force_setattr(model, field, check_int(field, value, low, high))


def shown(value: object) -> str:
    """A value as an error shows it: short, and printable whatever is in it."""
    try:
        text = ascii(value)
    except Exception:  # a repr that fails, or a number of more digits than Python prints
        text = f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= 40 else f"{text[:40]}…"
