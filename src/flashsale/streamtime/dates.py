"""Dates as playlists and players write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from flashsale.errors import InvalidRequest
from flashsale.limits import TIME_MAX_MS, check_int, shown

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FORM = "must be a date and time of ISO 8601"
_EXAMPLE = "such as 2026-11-11T00:00:00.000Z"


def read_date_us(field: str, text: str) -> tuple[int, bool]:
    """An ISO 8601 date as microseconds since the epoch, and whether it names its time zone.

    One that names none is read as UTC, as draft-pantos-hls-rfc8216bis has it for playlists.
    """
    try:
        date = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InvalidRequest(field, f"{_FORM}, {_EXAMPLE}, not {shown(text)}") from None
    if "T" not in text.upper():
        raise InvalidRequest(field, f"{_FORM}, {_EXAMPLE}, not {shown(text)}")
    zoned = date.tzinfo is not None
    micros = ((date if zoned else date.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)
    check_int(field, micros // 1_000, 0, TIME_MAX_MS)
    return micros, zoned


def parse_date_ms(field: str, text: str) -> int:
    """An ISO 8601 date with a time zone as milliseconds since the epoch, halves rounded up.

    Without one it is refused: JavaScript reads such a date in each viewer's own zone.
    """
    micros, zoned = read_date_us(field, text)
    if not zoned:
        raise InvalidRequest(field, f"{_FORM} with a time zone, {_EXAMPLE}, not {shown(text)}")
    return us_to_ms(micros)


def format_date(ms: int) -> str:
    """Milliseconds since the epoch as an ISO 8601 date in UTC."""
    return (_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds")[:-6] + "Z"


def us_to_ms(micros: int) -> int:
    """Microseconds as milliseconds, halves rounded up."""
    return (micros + 500) // 1_000
