"""A media playlist as rows of plain values, of which a refresh reads only what is new.

Read are the tags that tell where the stream is, and no others: RFC 8216 and its successor
draft-pantos-hls-rfc8216bis (parts, delta updates). The values of a few others are looked at, and
noted if they break the rules.

Whole lines between one segment's URI and a later one's that were read before, the same characters,
are not read again. So the cost of a refresh is a comparison of memory and what was added; where
every URI changes with each refresh (a signature in it), all lines are read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from flashsale.errors import InvalidRequest
from flashsale.limits import plain_text, shown
from flashsale.streamtime.attributes import parse_attributes
from flashsale.streamtime.daterange import DATERANGE, DateRangeTag, read_tag
from flashsale.streamtime.dates import read_date_us
from flashsale.streamtime.rows import Playlist, Row, last_same
from flashsale.streamtime.tags import (
    MULTIVARIANT,
    UNNEEDED,
    read_number,
    read_unquoted,
    read_us,
)

PLAYLIST_MAX = 4 * 1024 * 1024
"""Characters of a playlist."""

ROWS_MAX = 50_000
"""Segments of a playlist: 27 hours of 2 s."""

NOTES_MAX = 16
"""Notes of one playlist; further ones are left out."""

WHOLE_ONE = "must be a whole one, not a delta update (EXT-X-SKIP) that begins behind what was read"

_NUMBER_MAX = 2**53  # of a segment
_BREAKS_MAX = 2**30  # discontinuities counted by the packager
_DATE = "EXT-X-PROGRAM-DATE-TIME"

# Comments and empty lines are passed over without a call; a tag or URI may be indented.
_LINE = re.compile(r"[^\S\n]*(#EXT[^\n]*|[^#\s][^\n]*)|[^\n]+")


def parse_playlist(text: str, before: Playlist | None = None) -> Playlist:
    """Read a media playlist, the parts it has in common with an earlier refresh excepted.

    InvalidRequest if it is none, a multivariant one, or a delta update that skips segments which
    the earlier refresh does not have. Bounds: 4 Mi characters, 50,000 segments.
    """
    if not isinstance(text, str) or not text.startswith(("#EXTM3U", "\ufeff#EXTM3U")):
        raise InvalidRequest("playlist", "must be the text of a playlist, from #EXTM3U on")
    if len(text) > PLAYLIST_MAX:
        raise InvalidRequest("playlist", f"must have at most {PLAYLIST_MAX} characters")
    return _Reader(plain_text(text).removeprefix("\ufeff"), before).read()


class _Reader:
    """The state of reading one text: what stands in front of the next segment's URI."""

    def __init__(self, text: str, before: Playlist | None) -> None:
        self.text = text
        self.before = before
        self.sequence = 0
        self.discontinuity = 0
        self.skipped = 0
        self.removed: frozenset[str] = frozenset()
        self.ended = False
        self.ended_early = False
        self.rows: list[Row] = []
        self.read_from = 0
        self.same_until = -1
        self.ends: list[int] = []
        self.ends_at = 0
        self.tags: list[tuple[int, DateRangeTag]] = []
        self.unread: list[tuple[int, str]] = []
        self.notes: dict[str, int] = {}
        self.hint_uri: str | None = None
        self._next_segment()

    def read(self) -> Playlist:
        at = self._read_lines(0, rows=1)
        if self.rows and self.before is not None:
            at = self._take_over(self.before, at)
        self._read_lines(at, rows=ROWS_MAX)
        self._pending()
        if self.before is not None and self.rows:
            self._take_skipped(self.before)
        if self.skipped:
            raise InvalidRequest("playlist", WHOLE_ONE)
        return Playlist(
            text=self.text,
            discontinuity=self.discontinuity,
            ended=self.ended,
            rows=self.rows,
            read_from=self.read_from,
            same_until=self.same_until,
            # Behind an end that stands in the middle nothing may be taken over unread.
            ends=[] if self.ended_early else self.ends,
            ends_at=self.ends_at,
            tags=self.tags,
            unread=self.unread,
            notes=dict(sorted(self.notes.items(), key=lambda note: (note[1], note[0]))),
            hint_uri=self.hint_uri,
        )

    # --- what was read before -----------------------------------------------------------------

    def _take_over(self, before: Playlist, at: int) -> int:
        """Take rows over whose lines are the same characters; where the rest begins."""
        first = self.rows[0]
        offset = before.read_from
        index = first.sequence - before.rows[offset].sequence if before.ends else -1
        if not 0 <= index < len(before.ends):
            return at
        last = last_same(before, index, self.text, at)
        if last == index:
            return at
        rows = before.rows[offset + index + 1 : offset + last + 1]
        self.rows += rows
        self.ends = before.ends[index : last + 1]
        self.ends_at = at - before.ends[index]
        self.same_until = rows[-1].sequence
        self.sequence = self.same_until + 1
        self._keep_marks(before, first.sequence + 1, self.same_until)
        return before.ends[last] + self.ends_at

    def _take_skipped(self, before: Playlist) -> None:
        """Put the segments that a delta update skips in front, if the earlier refresh has them."""
        first, stop = self.rows[0].sequence - self.skipped, self.rows[0].sequence
        base = before.rows[0].sequence if before.rows else 0
        if not self.skipped or not base < stop <= base + len(before.rows):
            return
        if stop == base + len(before.rows) and not before.rows[-1].complete:
            return
        rows = before.rows[max(0, first - base) : stop - base]
        self._keep_marks(before, rows[0].sequence, stop - 1)
        self.rows = rows + self.rows
        self.read_from, self.skipped = len(rows), 0

    def _keep_marks(self, before: Playlist, first: int, last: int) -> None:
        """Keep the date ranges and notes of the segments that are taken over, in their order."""
        tags = [mark for mark in before.tags if first <= mark[0] <= last]
        tags = [mark for mark in tags if mark[1].attributes["ID"] not in self.removed]
        self.tags = sorted(tags + self.tags, key=_segment_of)
        unread = [mark for mark in before.unread if first <= mark[0] <= last]
        self.unread = sorted(unread + self.unread, key=_segment_of)
        for note, at in before.notes.items():
            if first <= at <= last and (note in self.notes or len(self.notes) < NOTES_MAX):
                self.notes[note] = max(at, self.notes.get(note, at))

    # --- lines --------------------------------------------------------------------------------

    def _read_lines(self, at: int, *, rows: int) -> int:
        """Read lines until there are so many more rows; where it stopped."""
        upto = len(self.rows) + rows
        for match in _LINE.finditer(self.text, at):
            line = match[1]
            if line is None:
                continue
            if not line.startswith("#"):
                self._end_segment(match.end())
                if len(self.rows) >= upto:
                    break
                continue
            name, _, value = line.partition(":")
            name = name.rstrip()
            read = _TAGS.get(name)
            if read is not None:
                read(self, value.strip())
            elif name in MULTIVARIANT:
                raise InvalidRequest("playlist", "must be a media playlist, not the multivariant")
            elif name in UNNEEDED and not UNNEEDED[name](value.strip()):
                self.note(f"{name[1:]} is not what RFC 8216 says, and not needed: {shown(value)}")
        else:
            return len(self.text)
        return match.end()

    def note(self, text: str) -> None:
        if text in self.notes or len(self.notes) < NOTES_MAX:
            self.notes[text] = self.sequence

    def _next_segment(self) -> None:
        self.duration_us: int | None = None
        self.date_us: int | None = None
        self.discontinuous = False
        self.parts: list[str] = []

    def _end_segment(self, end: int) -> None:
        """A URI: everything since the last one was said of this segment."""
        if self.duration_us is None:
            raise InvalidRequest("playlist", "must have durations in seconds: EXTINF is missing")
        if len(self.rows) >= ROWS_MAX:
            raise InvalidRequest("playlist", f"must have at most {ROWS_MAX} segments")
        for part in self.parts:
            try:
                read_us(read_unquoted(part, "DURATION"))
            except InvalidRequest as error:
                self.note(f"EXT-X-PART of a segment that is there: {error}")
        self._add_row(self.duration_us, complete=True)
        self.ends.append(end - self.ends_at)
        self.ended_early = self.ended_early or self.ended
        self.sequence += 1
        self._next_segment()

    def _pending(self) -> None:
        """The parts of a segment that is not complete yet."""
        if self.parts:
            self._add_row(
                sum(read_us(read_unquoted(part, "DURATION")) for part in self.parts), complete=False
            )

    def _add_row(self, available_us: int, *, complete: bool) -> None:
        row = Row(
            sequence=self.sequence,
            discontinuous=self.discontinuous,
            date_us=self.date_us,
            available_us=available_us,
            parts=len(self.parts),
            complete=complete,
        )
        self.rows.append(row)

    # --- tags ---------------------------------------------------------------------------------

    def media_sequence(self, value: str) -> None:
        if self.rows:
            self.note("EXT-X-MEDIA-SEQUENCE behind a segment does not count")
            return
        self.sequence = read_number("EXT-X-MEDIA-SEQUENCE", value, _NUMBER_MAX) + self.skipped

    def discontinuity_sequence(self, value: str) -> None:
        if self.rows:
            self.note("EXT-X-DISCONTINUITY-SEQUENCE behind a segment does not count")
            return
        self.discontinuity = read_number("EXT-X-DISCONTINUITY-SEQUENCE", value, _BREAKS_MAX)

    def skip(self, value: str) -> None:
        skipped = read_number("EXT-X-SKIP", read_unquoted(value, "SKIPPED-SEGMENTS"), _NUMBER_MAX)
        if self.rows:
            self.note("EXT-X-SKIP behind a segment does not count")
            return
        self.sequence += skipped - self.skipped
        self.skipped = skipped
        attributes = self._attributes("EXT-X-SKIP", value)
        self.removed = frozenset(attributes.get("RECENTLY-REMOVED-DATERANGES", "").split("\t"))

    def extinf(self, value: str) -> None:
        self.duration_us = read_us(value.partition(",")[0].strip())

    def date(self, value: str) -> None:
        try:
            date_us, zoned = read_date_us(_DATE, value)
        except InvalidRequest as error:
            self.note(str(error))
            return
        if not zoned:
            self.note(f"{_DATE} without a time zone is read as UTC")
        if self.parts and self.date_us is not None:
            self.note(f"{_DATE} behind a part does not count where the segment has one before it")
            return
        self.date_us = date_us

    def discontinuity_tag(self, _value: str) -> None:
        self.discontinuous = True

    def part(self, value: str) -> None:
        self.parts.append(value)

    def date_range(self, value: str) -> None:
        line = DATERANGE + value
        try:
            self.tags.append((self.sequence, read_tag(line)))
        except InvalidRequest as error:
            self.unread.append((self.sequence, line))
            self.note(str(error))

    def hint(self, value: str) -> None:
        attributes = self._attributes("EXT-X-PRELOAD-HINT", value)
        if attributes.get("TYPE") == "PART":
            self.hint_uri = attributes.get("URI")

    def _attributes(self, name: str, value: str) -> dict[str, str]:
        """Those of a tag that is read as far as it can be."""
        try:
            return parse_attributes(name, value)
        except InvalidRequest as error:
            self.note(str(error))
            return {}

    def end(self, _value: str) -> None:
        self.ended = True


_TAGS: Mapping[str, Callable[[_Reader, str], None]] = MappingProxyType(
    {
        "#EXTINF": _Reader.extinf,
        "#EXT-X-PROGRAM-DATE-TIME": _Reader.date,
        "#EXT-X-DISCONTINUITY": _Reader.discontinuity_tag,
        "#EXT-X-PART": _Reader.part,
        "#EXT-X-DATERANGE": _Reader.date_range,
        "#EXT-X-PRELOAD-HINT": _Reader.hint,
        "#EXT-X-MEDIA-SEQUENCE": _Reader.media_sequence,
        "#EXT-X-DISCONTINUITY-SEQUENCE": _Reader.discontinuity_sequence,
        "#EXT-X-SKIP": _Reader.skip,
        "#EXT-X-ENDLIST": _Reader.end,
    }
)


def _segment_of(mark: tuple[int, object]) -> int:
    return mark[0]
