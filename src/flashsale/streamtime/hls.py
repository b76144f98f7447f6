"""HLS: what a playlist's refreshes say about positions and server time.

RFC 8216 and its successor draft-pantos-hls-rfc8216bis (for partial segments and delta updates).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median_low

from msgspec import Struct

from flashsale.errors import InvalidRequest
from flashsale.limits import TIME_MAX_MS, check_int
from flashsale.streamtime.daterange import DateRange, StreamCue, as_cue, read_date_range
from flashsale.streamtime.dates import us_to_ms
from flashsale.streamtime.placing import Place, continue_numbers, place_rows
from flashsale.streamtime.playlists import Playlist, Row, parse_playlist
from flashsale.streamtime.values import Position, Relabel, Sample, StreamEvent

RESTART_MS = 10_000
"""Labels of known segments that moved by more than this belong to a stream that started over."""

_JUMP_US = 500_000  # between one label and the next: a break that has no tag
_NOWHERE = (-1, 0, 0)


class Stretch(Struct, frozen=True):
    """The part of a playlist that lies in one discontinuity, in positions."""

    discontinuity: int
    first_ms: int
    last_ms: int


class HlsReading(Struct, frozen=True):
    """What one refresh of a playlist told.

    `events`: for `StreamClock.take`; none if the refresh brought nothing new.
    `edge`: the end of the media that is there, None if no date is known for it. A preload hint is
    not there yet: `hint_uri` names it, and its first position is the edge.
    `stretches`: the positions covered, a discontinuity each.
    `shift_ms`: by how much the encoder moved its labels since the last refresh (the largest, with
    its sign). Positions reported by players before and after differ by that much, so a cue whose
    window is open across a large shift should be voided.
    `stale`: an older playlist than one read before, from a cache; nothing is taken from it.
    `ended`: the stream is over, or was never live.
    `cues`, `date_ranges`: in the order of the playlist; `unread` has the date ranges that break
    the rules of RFC 8216.
    """

    events: tuple[StreamEvent, ...]
    edge: Position | None
    stretches: tuple[Stretch, ...]
    shift_ms: int
    stale: bool
    ended: bool
    hint_uri: str | None
    cues: tuple[StreamCue, ...]
    date_ranges: tuple[DateRange, ...]
    unread: tuple[str, ...]


class HlsTimeline:
    """Reads the refreshes of one media playlist, one after the other.

    Positions are the labels that players use: EXT-X-PROGRAM-DATE-TIME of a segment plus the time
    into it. What encoders do to them is handled like this:

    - stamped once, at the start: later segments are continued by EXTINF, also when the tag has
      left the playlist; a constant error does not matter to a clock.
    - changed between refreshes: the same segment's old and new label tell the shift exactly, and
      what the clock knows is relabelled.
    - a discontinuity: nothing is continued across. Numbers go on even if the packager forgets
      EXT-X-DISCONTINUITY-SEQUENCE when old ones leave the playlist, or starts over.
    - low-latency parts count as soon as they are listed.

    Samples are the edge of the playlist and the server time at which it was read: late by at most
    the time since the last reading, so read it once a segment or part, and use
    `StreamClock(noise="late")`. No I/O: the caller fetches the text. One rendition only; labels of
    several may differ by a frame. What is remembered is one playlist, of at most 4 Mi characters.
    """

    def __init__(self) -> None:
        self._known: dict[int, Place] = {}
        self._newest_discontinuity = -1
        self._edge = _NOWHERE

    def read(self, text: str, server_ms: int) -> HlsReading:
        """Read a refresh fetched at `server_ms` (server time, when the answer had come).

        InvalidRequest if it is no media playlist; if it is a delta update (EXT-X-SKIP) whose
        predecessor was not read: fetch the whole one; if no EXT-X-PROGRAM-DATE-TIME was seen, so
        that players cannot tell positions either.
        """
        check_int("server_ms", server_ms, 0, TIME_MAX_MS)
        playlist = parse_playlist(text)
        if not playlist.rows or self._is_stale(playlist.rows[-1]):
            return _reading(playlist, (), (), stale=bool(self._known))
        if self._known and playlist.rows[-1].sequence < min(self._known):
            self._forget()
        places = self._places(playlist)
        shifts = self._shifts(places)
        if any(abs(shift) > RESTART_MS for shift in shifts.values()):
            self._forget()
            places, shifts = self._places(playlist), {}
        if not any(place.start_us is not None for place in places):
            raise InvalidRequest(
                "playlist",
                "must have EXT-X-PROGRAM-DATE-TIME: without it players report no positions; "
                "for a stream without dates use PTS (PtsTimeline)",
            )
        relabels = [Relabel(shift, server_ms, number) for number, shift in shifts.items() if shift]
        samples = [] if playlist.ended else self._samples(places, server_ms)
        self._remember(places)
        return _reading(playlist, (*relabels, *samples), places)

    def _is_stale(self, last: Row) -> bool:
        """Whether a refresh ends before what was known ended, and yet overlaps it."""
        if not self._known:
            return False
        order = (last.sequence, int(last.complete), last.parts)
        return order < self._edge and last.sequence >= min(self._known)

    def _forget(self) -> None:
        """The stream started over: its numbers and labels have nothing to do with the old ones."""
        self._known, self._edge = {}, _NOWHERE

    def _places(self, playlist: Playlist) -> list[Place]:
        numbers = continue_numbers(playlist, self._known, self._newest_discontinuity)
        return place_rows(playlist.rows, numbers, self._known)

    def _shifts(self, places: list[Place]) -> dict[int, int]:
        """By discontinuity: how far the labels of segments seen before have moved."""
        moved: dict[int, list[int]] = {}
        for place in places:
            known = self._known.get(place.sequence)
            if known is None or known.start_us is None or place.start_us is None:
                continue
            shift = us_to_ms(place.start_us) - us_to_ms(known.start_us)
            moved.setdefault(place.discontinuity, []).append(shift)
        return {number: median_low(shifts) for number, shifts in moved.items()}

    def _samples(self, places: Sequence[Place], server_ms: int) -> list[Sample]:
        """The end of every discontinuity that has grown since the last reading."""
        first_us: dict[int, int] = {}
        newest: dict[int, Place] = {}
        for place in places:
            if place.start_us is None:
                continue
            number = place.discontinuity
            before_us = newest[number].end_us if number in newest else None
            if before_us is None or abs(place.start_us - before_us) > _JUMP_US:
                first_us[number] = place.start_us
            newest[number] = place
        samples: list[Sample] = []
        for number, place in newest.items():
            if place.end_us is not None and place.order > self._edge:
                end_ms, first_ms = us_to_ms(place.end_us), us_to_ms(first_us[number])
                samples.append(Sample(end_ms, server_ms, number, min(first_ms, end_ms)))
        return samples

    def _remember(self, places: list[Place]) -> None:
        self._known = {place.sequence: place for place in places}
        self._newest_discontinuity = max(
            self._newest_discontinuity, *(place.discontinuity for place in places)
        )
        self._edge = places[-1].order


def _reading(
    playlist: Playlist,
    events: tuple[StreamEvent, ...],
    places: Sequence[Place],
    *,
    stale: bool = False,
) -> HlsReading:
    ranges, cues, unread = _date_ranges(playlist.date_range_lines)
    edge = None
    if places and (end_us := places[-1].end_us) is not None:
        edge = Position(us_to_ms(end_us), places[-1].discontinuity)
    shifts = [event.shift_ms for event in events if isinstance(event, Relabel)]
    return HlsReading(
        events=events,
        edge=edge,
        stretches=_stretches(places),
        shift_ms=max(shifts, key=abs, default=0),
        stale=stale,
        ended=playlist.ended,
        hint_uri=playlist.hint_uri,
        cues=cues,
        date_ranges=ranges,
        unread=unread,
    )


def _stretches(places: Sequence[Place]) -> tuple[Stretch, ...]:
    found: dict[int, tuple[int, int]] = {}
    for place in places:
        if place.start_us is None or place.end_us is None:
            continue
        first_us, last_us = found.get(place.discontinuity, (place.start_us, place.end_us))
        found[place.discontinuity] = (min(first_us, place.start_us), max(last_us, place.end_us))
    return tuple(
        Stretch(number, us_to_ms(first_us), us_to_ms(last_us))
        for number, (first_us, last_us) in found.items()
    )


def _date_ranges(
    lines: tuple[str, ...],
) -> tuple[tuple[DateRange, ...], tuple[StreamCue, ...], tuple[str, ...]]:
    """Those that can be read, the cues among them, and the lines that cannot be."""
    ranges: list[DateRange] = []
    cues: list[StreamCue] = []
    unread: list[str] = []
    for line in lines:
        try:
            one = read_date_range(line)
            cue = as_cue(one)
        except InvalidRequest:
            unread.append(line)
            continue
        ranges.append(one)
        if cue is not None:
            cues.append(cue)
    return tuple(ranges), tuple(cues), tuple(unread)
