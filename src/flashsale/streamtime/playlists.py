"""A media playlist as rows of plain values, read with `m3u8`.

Three things `m3u8` leaves to its caller are read from the tags themselves, through its hook for
custom tags: dates (of a segment with parts it would add both the parts' and the segment's
durations to the next date), a discontinuity before the first part of a segment that is not
complete yet, and date ranges behind the last segment.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from flashsale.errors import ConfigurationError, InvalidRequest
from flashsale.limits import shown
from flashsale.streamtime.daterange import DATERANGE
from flashsale.streamtime.dates import parse_date_us

PLAYLIST_MAX = 4 * 1024 * 1024
"""Characters of a playlist."""

_DATE = "#EXT-X-PROGRAM-DATE-TIME:"
_BREAK = "#EXT-X-DISCONTINUITY"
_SECONDS_MAX = 86_400


class Row(Struct, frozen=True):
    """One media segment, or the parts there are of one. `available_us`: how much of it is there."""

    sequence: int
    discontinuous: bool
    date_us: int | None
    available_us: int
    parts: int
    complete: bool


class Playlist(Struct, frozen=True):
    """One refresh of a media playlist."""

    first_sequence: int
    discontinuity: int
    skipped: int
    ended: bool
    rows: tuple[Row, ...]
    date_range_lines: tuple[str, ...]
    hint_uri: str | None


def parse_playlist(text: str) -> Playlist:
    """Read a media playlist; InvalidRequest if it is none, or a multivariant one."""
    if not isinstance(text, str) or not text.lstrip("\ufeff").startswith("#EXTM3U"):
        raise InvalidRequest("playlist", "must be the text of a playlist, from #EXTM3U on")
    if len(text) > PLAYLIST_MAX:
        raise InvalidRequest("playlist", f"must have at most {PLAYLIST_MAX} characters")
    try:
        import m3u8
    except ModuleNotFoundError as error:
        hint = "pip install 'flashsale[stream]'"
        raise ConfigurationError(f"to read HLS playlists takes m3u8: {hint}") from error
    try:
        data: dict[str, Any] = m3u8.parse(text.lstrip("\ufeff"), custom_tags_parser=_read_tag)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, InvalidRequest):
            raise
        rule = f"must be a playlist of RFC 8216; {shown(str(error))}"
        raise InvalidRequest("playlist", rule) from error
    if data["is_variant"]:
        raise InvalidRequest("playlist", "must be a media playlist, not the multivariant one")
    skipped = int(data["skip"].get("skipped_segments", 0))
    first = int(data["media_sequence"])
    return Playlist(
        first_sequence=first,
        discontinuity=int(data.get("discontinuity_sequence") or 0),
        skipped=skipped,
        ended=bool(data["is_endlist"]),
        rows=tuple(
            _row(first + skipped + index, segment)
            for index, segment in enumerate(data["segments"])
            if segment.get("uri") or segment.get("parts")
        ),
        date_range_lines=tuple(data.get("date_range_lines", ())),
        hint_uri=_hint_uri(data.get("preload_hint")),
    )


def _read_tag(line: str, _number: int, data: dict[str, Any], state: dict[str, Any]) -> bool:
    """m3u8's hook for one line; True if nobody else is to read it."""
    if line.startswith(_DATE):
        if not state.get("segment", {}).get("parts"):
            _keep(state, "date", line.removeprefix(_DATE))
    elif line == _BREAK:
        _keep(state, "discontinuous", True)
    elif line.startswith(DATERANGE):
        data.setdefault("date_range_lines", []).append(line)
    else:
        return False
    return True


def _keep(state: dict[str, Any], name: str, value: object) -> None:
    """What m3u8's `save_segment_custom_value` does."""
    segment = state.setdefault("segment", {})
    segment.setdefault("custom_parser_values", {})[name] = value


def _row(sequence: int, segment: dict[str, Any]) -> Row:
    read = segment.get("custom_parser_values", {})
    complete = bool(segment.get("uri"))
    parts = [_micros(part.get("duration")) for part in segment.get("parts", ())]
    return Row(
        sequence=sequence,
        discontinuous=bool(read.get("discontinuous")),
        date_us=parse_date_us("EXT-X-PROGRAM-DATE-TIME", read["date"]) if "date" in read else None,
        available_us=_micros(segment.get("duration")) if complete else sum(parts),
        parts=len(parts),
        complete=complete,
    )


def _micros(seconds: object) -> int:
    if not isinstance(seconds, float) or not 0 <= seconds <= _SECONDS_MAX:
        raise InvalidRequest("playlist", f"must have durations in seconds, not {shown(seconds)}")
    return round(seconds * 1_000_000)


def _hint_uri(hint: dict[str, Any] | None) -> str | None:
    if not hint or hint.get("type") != "PART":
        return None
    uri = hint.get("uri")
    return uri if isinstance(uri, str) else None
