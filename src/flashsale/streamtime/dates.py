"""Dates as playlists and players write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from flashsale.errors import InvalidRequest
from flashsale.limits import TIME_MAX_MS, check_int, shown

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RULE = "must be a date and time of ISO 8601 with a time zone, such as 2026-11-11T00:00:00.000Z"


def parse_date_us(field: str, text: str) -> int:
    """An ISO 8601 date as microseconds since the epoch.

    A date without a time zone is refused: JavaScript reads it in each viewer's own zone.
    """
    try:
        date = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InvalidRequest(field, f"{_RULE}, not {shown(text)}") from None
    if date.tzinfo is None or "T" not in text.upper():
        raise InvalidRequest(field, f"{_RULE}, not {shown(text)}")
    micros = (date - _EPOCH) // timedelta(microseconds=1)
    check_int(field, micros // 1_000, 0, TIME_MAX_MS)
    return micros


def parse_date_ms(field: str, text: str) -> int:
    """An ISO 8601 date as milliseconds since the epoch, halves rounded up."""
    return us_to_ms(parse_date_us(field, text))


def format_date(ms: int) -> str:
    """Milliseconds since the epoch as an ISO 8601 date in UTC."""
    return (_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds")[:-6] + "Z"


def us_to_ms(micros: int) -> int:
    """Microseconds as milliseconds, halves rounded up."""
    return (micros + 500) // 1_000
