"""How a cue and its nonce travel inside the stream.

*HLS*: an EXT-X-DATERANGE tag (RFC 8216, 4.3.2.7; RFC 8216bis, 4.4.5.1) in every rendition's media
playlist, from `write_cue`. CLASS is "flashsale.cue", START-DATE the cue's position on the
EXT-X-PROGRAM-DATE-TIME timeline, DURATION the window, X-NONCE the nonce in hexadecimal. A playlist
reaches viewers before the media does, by a segment or more; so put the line in when the cue is
given, not ahead of it. hls.js hands it out as a cue of the metadata track and in
`levelDetails.dateRanges`, AVPlayer through AVPlayerItemMetadataCollector.

*ID3*: in timed metadata (an ID3 v2.4 tag in a PES packet of stream type 0x15 for MPEG-TS, or an
`emsg` box with the scheme https://aomedia.org/emsg/ID3 for CMAF), a TXXX frame with the description
"flashsale.cue" and the value of `nonce_text`. It travels with the samples at its own PTS, so nobody
has it before the media itself: prefer it to the playlist where the packager can write it.

*SEI*: in H.264 and H.265 a user_data_unregistered message (ITU-T H.264, D.1.7): the 16 bytes of
`SEI_UUID`, then the UTF-8 bytes of `nonce_text`, in the access unit of the cue's frame. It survives
any packager that does not encode again.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation

from msgspec import Struct
from msgspec.structs import force_setattr

from flashsale.errors import InvalidRequest
from flashsale.limits import DURATION_MAX_MS, TIME_MAX_MS, check_id, check_int, plain_text, shown
from flashsale.streamtime.attributes import parse_attributes, quoted
from flashsale.streamtime.dates import format_date, read_date_us, us_to_ms

CUE_CLASS = "flashsale.cue"
SEI_UUID = uuid.UUID("0d7e4f2b-5d5a-4d0c-9a51-6b1f5c8e2a77")
DATERANGE = "#EXT-X-DATERANGE:"

_FIELD = "EXT-X-DATERANGE"
_NONCE = re.compile(r"[0-9a-f]{32}")


class StreamCue(Struct, frozen=True):
    """A cue as the stream carries it.

    `id`: the cue's; `position_ms`: epoch milliseconds by EXT-X-PROGRAM-DATE-TIME; `nonce`: 32
    hexadecimal digits (128 bits), lower case; `window_ms`: 1 ms to 30 days.
    """

    id: str
    position_ms: int
    nonce: str
    window_ms: int

    def __post_init__(self) -> None:
        force_setattr(self, "id", check_id("cue id", self.id))
        check_int("position_ms", self.position_ms, 0, TIME_MAX_MS)
        check_int("window_ms", self.window_ms, 1, DURATION_MAX_MS)
        if not isinstance(self.nonce, str) or not _NONCE.fullmatch(self.nonce):
            rule = "must be 32 hexadecimal digits in lower case (128 bits)"
            raise InvalidRequest("nonce", f"{rule}, not {shown(self.nonce)}")
        force_setattr(self, "nonce", plain_text(self.nonce))


class DateRange(Struct, frozen=True):
    """Any EXT-X-DATERANGE of a playlist, by its attributes; those not named here are in `others`.

    Times are epoch milliseconds on the EXT-X-PROGRAM-DATE-TIME timeline.
    """

    id: str
    class_name: str | None
    start_ms: int
    duration_ms: int | None
    others: dict[str, str]


def write_cue(cue_id: str, *, position_ms: int, nonce: str, window_ms: int) -> str:
    """The line that puts a cue into a media playlist, without a line break.

    The same id must keep the same attributes in every playlist it stands in. InvalidRequest for
    values out of bounds (see `StreamCue`).
    """
    cue = StreamCue(cue_id, position_ms, nonce, window_ms)
    seconds, milliseconds = divmod(cue.window_ms, 1_000)
    attributes = {
        "ID": quoted("cue id", cue.id),
        "CLASS": quoted("class", CUE_CLASS),
        "START-DATE": quoted("position_ms", format_date(cue.position_ms)),
        "DURATION": f"{seconds}.{milliseconds:03}",
        "X-NONCE": quoted("nonce", cue.nonce),
    }
    return DATERANGE + ",".join(f"{name}={value}" for name, value in attributes.items())


def read_cue(line: str) -> StreamCue | None:
    """Read a line of `write_cue` back; None if it is no EXT-X-DATERANGE of that class.

    The nonce may also be written as a hexadecimal sequence (0x…), and in upper case, as packagers
    do that write the tag anew. InvalidRequest if a cue's line lacks something.
    """
    return as_cue(read_date_range(line)) if line.startswith(DATERANGE) else None


def read_date_range(line: str) -> DateRange:
    """Read an EXT-X-DATERANGE tag; InvalidRequest if it breaks the rules of RFC 8216.

    A START-DATE without a time zone is UTC. Of a range that is split over several tags, none of
    which need have all of it, use `HlsReading.date_ranges`.
    """
    return _date_range(read_tag(line))


class DateRangeTag(Struct, frozen=True):
    """One EXT-X-DATERANGE line: of a range, perhaps, that has others of the same id."""

    line: str
    attributes: dict[str, str]


def read_tag(line: str) -> DateRangeTag:
    """The attributes of an EXT-X-DATERANGE line; InvalidRequest if it has no ID."""
    if not line.startswith(DATERANGE):
        raise InvalidRequest(_FIELD, f"must begin with {DATERANGE}, not {shown(line)}")
    attributes = parse_attributes(_FIELD, line.removeprefix(DATERANGE).strip())
    if "ID" not in attributes:
        raise InvalidRequest(_FIELD, "must have ID")
    return DateRangeTag(line, attributes)


class DateRanges(Struct, frozen=True):
    """What a playlist's EXT-X-DATERANGE tags say together.

    `unread`: lines that break the rules; `notes`: why, and what was read in spite of it.
    """

    ranges: tuple[DateRange, ...]
    cues: tuple[StreamCue, ...]
    unread: tuple[str, ...]
    notes: tuple[str, ...]


def merge_tags(tags: Iterable[DateRangeTag]) -> DateRanges:
    """Date ranges from tags, those of one ID as one, in the order of their first tags.

    As draft-pantos-hls-rfc8216bis (4.4.5.1) has it: an attribute may stand in any of the tags of
    an ID, START-DATE too, but must have the same value in all of them. A tag that says otherwise
    than an earlier one is left out.
    """
    lines: dict[str, list[str]] = {}
    merged: dict[str, dict[str, str]] = {}
    unread: list[str] = []
    notes: list[str] = []
    for tag in tags:
        known = merged.setdefault(tag.attributes["ID"], {})
        differ = [n for n, value in tag.attributes.items() if known.get(n, value) != value]
        if differ:
            unread.append(tag.line)
            notes.append(f"{_FIELD}: {shown(tag.attributes['ID'])} has two values of {differ[0]}")
            continue
        known.update(tag.attributes)
        lines.setdefault(tag.attributes["ID"], []).append(tag.line)
    ranges: list[DateRange] = []
    cues: list[StreamCue] = []
    for name, attributes in merged.items():
        try:
            one = _date_range(DateRangeTag("", attributes))
            cue = as_cue(one)
        except InvalidRequest as error:
            unread += lines[name]
            notes.append(f"{_FIELD}: {shown(name)} cannot be read: {error}")
            continue
        if not read_date_us("START-DATE", attributes["START-DATE"])[1]:
            notes.append(f"{_FIELD}: a START-DATE without a time zone is read as UTC")
        ranges.append(one)
        if cue is not None:
            cues.append(cue)
    return DateRanges(tuple(ranges), tuple(cues), tuple(unread), tuple(dict.fromkeys(notes)))


def _date_range(tag: DateRangeTag) -> DateRange:
    attributes = dict(tag.attributes)
    if "START-DATE" not in attributes:
        raise InvalidRequest(_FIELD, "must have START-DATE")
    duration = attributes.pop("DURATION", None)
    return DateRange(
        id=attributes.pop("ID"),
        class_name=attributes.pop("CLASS", None),
        start_ms=us_to_ms(read_date_us("START-DATE", attributes.pop("START-DATE"))[0]),
        duration_ms=None if duration is None else _seconds_ms(duration),
        others=attributes,
    )


def as_cue(date_range: DateRange) -> StreamCue | None:
    """The cue in a date range, None if its class is another."""
    if date_range.class_name != CUE_CLASS:
        return None
    nonce = date_range.others.get("X-NONCE", "")
    if date_range.duration_ms is None:
        raise InvalidRequest(_FIELD, "must have DURATION, the cue's window")
    nonce = nonce.lower().removeprefix("0x")
    return StreamCue(date_range.id, date_range.start_ms, nonce, date_range.duration_ms)


def nonce_text(cue_id: str, nonce: str) -> str:
    """What an ID3 TXXX frame or an SEI message carries: the cue's id, a space, the nonce."""
    cue = StreamCue(cue_id, 0, nonce, 1)
    return f"{cue.id} {cue.nonce}"


def _seconds_ms(text: str) -> int:
    try:
        seconds = Decimal(text)
    except InvalidOperation:
        seconds = Decimal(-1)
    if not seconds.is_finite() or not 0 <= seconds * 1_000 <= DURATION_MAX_MS:
        rule = f"must be seconds from 0 to {DURATION_MAX_MS // 1_000}"
        raise InvalidRequest("DURATION", f"{rule}, not {shown(text)}")
    return round(seconds * 1_000)
