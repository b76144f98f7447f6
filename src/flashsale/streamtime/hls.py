"""HLS: what a playlist's refreshes say about positions and server time.

RFC 8216 and its successor draft-pantos-hls-rfc8216bis (for partial segments and delta updates).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from itertools import takewhile
from statistics import median_low

from msgspec import Struct

from flashsale.errors import InvalidRequest
from flashsale.limits import TIME_MAX_MS, check_int
from flashsale.streamtime.daterange import (
    DateRange,
    DateRanges,
    DateRangeTag,
    StreamCue,
    merge_tags,
)
from flashsale.streamtime.dates import us_to_ms
from flashsale.streamtime.placing import Known, Place, continue_numbers, extend_places, place_rows
from flashsale.streamtime.playlists import WHOLE_ONE, parse_playlist
from flashsale.streamtime.restarts import Judge, Verdict
from flashsale.streamtime.rows import Playlist
from flashsale.streamtime.values import Position, Relabel, Sample, StreamEvent

NOTES_TOLD_MAX = 32
"""Notes of one reading."""


class Stretch(Struct, frozen=True):
    """The part of a playlist that lies in one discontinuity, in positions.

    `doubt_ms`: 0 if a date in the discontinuity tells them; otherwise they are continued across
    the break in front of it, whose length nobody knows.
    """

    discontinuity: int
    first_ms: int
    last_ms: int
    doubt_ms: int = 0


class HlsReading(Struct, frozen=True):
    """What one refresh of a playlist told.

    `events`: for `StreamClock.take`; none if the refresh brought nothing new.
    `edge`: the end of the media that is there, None if no date is known for it. A preload hint is
    not there yet: `hint_uri` names it, and its first position is the edge.
    `edge_doubt_ms`: how far the edge's label may differ from the one that a player reports: 0 if a
    date tells it, 10,000 for each discontinuity without a date that it was continued across.
    `shift_ms`: by how much the encoder moved its labels since the last refresh (the largest, with
    its sign). Positions reported by players before and after differ by that much, so a cue whose
    window is open across a large shift should be voided.
    `stale`: an older playlist than one read before, from a cache; nothing is taken from it, neither
    its cues nor its end.
    `ended`: the stream is over, or was never live.
    `cues`, `date_ranges`: in the order of the playlist, the tags of one id merged; `unread` has the
    lines that break the rules of RFC 8216.
    `notes`: what is odd about the playlist and was read all the same, at most 32 of them: dates
    without a time zone (taken as UTC), positions in doubt, bad values that are not needed.
    `places`: of every segment; `stretches` sums them up.
    """

    events: tuple[StreamEvent, ...]
    edge: Position | None
    edge_doubt_ms: int
    shift_ms: int
    stale: bool
    ended: bool
    hint_uri: str | None
    cues: tuple[StreamCue, ...]
    date_ranges: tuple[DateRange, ...]
    unread: tuple[str, ...]
    notes: tuple[str, ...]
    places: tuple[Place, ...]

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """The positions covered, a discontinuity each; every segment is looked at for it."""
        found: dict[int, Stretch] = {}
        for place in self.places:
            if place.start_us is None or place.end_us is None:
                continue
            number = place.discontinuity
            first_ms, last_ms = us_to_ms(place.start_us), us_to_ms(place.end_us)
            if (one := found.get(number)) is not None:
                first_ms, last_ms = min(one.first_ms, first_ms), max(one.last_ms, last_ms)
            found[number] = Stretch(number, first_ms, last_ms, place.doubt_ms)
        return tuple(found.values())


class HlsTimeline:
    """Reads the refreshes of one media playlist, one after the other.

    Positions are the labels that players use: EXT-X-PROGRAM-DATE-TIME of a segment plus the time
    into it. What encoders do to them is handled like this:

    - stamped once, at the start: later segments are continued by EXTINF, also when the tag has
      left the playlist; a constant error does not matter to a clock.
    - changed between refreshes: the same segment's old and new label tell the shift exactly, and
      what the clock knows is relabelled.
    - a discontinuity: numbers go on even if the packager forgets EXT-X-DISCONTINUITY-SEQUENCE when
      old ones leave the playlist, or starts over. Without a date behind it positions are continued
      from before it, as players do, in doubt by 10 s (`HlsReading.edge_doubt_ms`, and part of the
      clock's uncertainty) until a date comes.
    - started over (lower sequence numbers, later dates): read anew, as a discontinuity. An old
      copy from a cache has no later date and stays stale; a stream that starts over with earlier
      dates is believed when it has grown for 60 s in which nothing else was new.
    - low-latency parts count as soon as they are listed, and a date anywhere before its segment's
      URI, behind parts too.

    Samples are the edge of the playlist and the server time at which it was read: late by at most
    the time since the last reading and by a segment (or part), which each sample says. So read it
    more often than segments or parts come, and use `StreamClock(noise="late")`. Discontinuities
    that a first reading finds before the edge give no sample: nobody knows when they were there.

    No I/O: the caller fetches the text. One rendition only; labels of several may differ by a
    frame. What is remembered is one playlist, of at most 4 Mi characters and 50,000 segments; a
    refresh reads only what it adds. The first reading of a large playlist takes long
    (`read_in_thread`). Safe for threads.
    """

    def __init__(self) -> None:
        self._playlist: Playlist | None = None
        self._known = Known()
        self._newest_discontinuity = -1
        self._read_ms: int | None = None
        self._judge = Judge()
        self._merged: tuple[list[DateRangeTag], DateRanges] = ([], merge_tags(()))
        self._lock = threading.Lock()

    def read(self, text: str, server_ms: int) -> HlsReading:
        """Read a refresh fetched at `server_ms` (server time, when the answer had come).

        InvalidRequest if it is no media playlist; if it is a delta update (EXT-X-SKIP) whose
        predecessor was not read: fetch the whole one; if no EXT-X-PROGRAM-DATE-TIME was seen, so
        that players cannot tell positions either. Of one that is refused nothing is remembered.
        """
        check_int("server_ms", server_ms, 0, TIME_MAX_MS)
        with self._lock:
            return self._read(parse_playlist(text, self._playlist), server_ms)

    async def read_in_thread(self, text: str, server_ms: int) -> HlsReading:
        """`read`, off the event loop. Await one call before the next: their order counts."""
        return await asyncio.to_thread(self.read, text, server_ms)

    def _read(self, playlist: Playlist, server_ms: int) -> HlsReading:
        if not playlist.rows:
            return _STALE if self._known else self._reading(playlist, (), ())
        places, shifts = self._places(playlist)
        verdict = self._judge.judge(places, self._known, shifts, server_ms)
        if verdict is Verdict.STALE:
            return _STALE
        edge, since_ms = _NOWHERE, self._read_ms
        if self._known:
            edge = self._known.last.order
        if verdict is Verdict.STARTED_OVER:
            if playlist.read_from:
                raise InvalidRequest("playlist", WHOLE_ONE)
            places, shifts = self._place_all(playlist, Known()), {}
            edge, since_ms = _NOWHERE, None
        if not any(place.start_us is not None for place in places):
            raise InvalidRequest(
                "playlist",
                "must have EXT-X-PROGRAM-DATE-TIME: without it players report no positions; for "
                f"a stream without dates use PTS (PtsTimeline){_noted(playlist)}",
            )
        relabels = [Relabel(shift, server_ms, number) for number, shift in shifts.items() if shift]
        added = _newer(places, edge)
        samples = [] if playlist.ended else _samples(added, server_ms, since_ms)
        self._playlist, self._known, self._read_ms = playlist, Known(places), server_ms
        self._newest_discontinuity = max(self._newest_discontinuity, places[-1].discontinuity)
        self._judge.accept(added)
        return self._reading(playlist, (*relabels, *samples), tuple(places))

    def _places(self, playlist: Playlist) -> tuple[list[Place], dict[int, int]]:
        """Where its segments lie, and by discontinuity how far known labels have moved."""
        places = extend_places(playlist, self._known)
        if places is not None:
            return places, {self._known.last.discontinuity: 0}
        places = self._place_all(playlist, self._known)
        # What a delta update skips is our own memory of it and confirms nothing.
        return places, _shifts(places[playlist.read_from :], self._known)

    def _place_all(self, playlist: Playlist, known: Known) -> list[Place]:
        numbers = continue_numbers(playlist, known, self._newest_discontinuity)
        return place_rows(playlist.rows, numbers, known)

    def _reading(
        self,
        playlist: Playlist,
        events: tuple[StreamEvent, ...],
        places: tuple[Place, ...],
    ) -> HlsReading:
        ranges = self._date_ranges(playlist)
        edge, doubt_ms = None, 0
        if places and (end_us := places[-1].end_us) is not None:
            edge = Position(us_to_ms(end_us), places[-1].discontinuity)
            doubt_ms = places[-1].doubt_ms
        doubts = [] if not doubt_ms else [_in_doubt(places[-1])]
        shifts = [event.shift_ms for event in events if isinstance(event, Relabel)]
        return HlsReading(
            events=events,
            edge=edge,
            edge_doubt_ms=doubt_ms,
            shift_ms=max(shifts, key=abs, default=0),
            stale=False,
            ended=playlist.ended,
            hint_uri=playlist.hint_uri,
            cues=ranges.cues,
            date_ranges=ranges.ranges,
            unread=(*(line for _, line in playlist.unread), *ranges.unread),
            notes=(*doubts, *playlist.notes, *ranges.notes)[:NOTES_TOLD_MAX],
            places=places,
        )

    def _date_ranges(self, playlist: Playlist) -> DateRanges:
        """Merged anew only if there are others than in the last refresh."""
        tags = [tag for _, tag in playlist.tags]
        if tags != self._merged[0]:
            self._merged = (tags, merge_tags(tags))
        return self._merged[1]


_NOWHERE = (-1, 0, 0)
_STALE = HlsReading(
    events=(),
    edge=None,
    edge_doubt_ms=0,
    shift_ms=0,
    stale=True,
    ended=False,
    hint_uri=None,
    cues=(),
    date_ranges=(),
    unread=(),
    notes=(),
    places=(),
)


def _shifts(places: Sequence[Place], known: Known) -> dict[int, int]:
    """By discontinuity: how far the labels of segments seen before have moved."""
    moved: dict[int, list[int]] = {}
    for place in places:
        was = known.at(place.sequence)
        if was is None or was.start_us is None or place.start_us is None:
            continue
        shift = us_to_ms(place.start_us) - us_to_ms(was.start_us)
        moved.setdefault(place.discontinuity, []).append(shift)
    return {number: median_low(shifts) for number, shifts in moved.items()}


def _newer(places: Sequence[Place], edge: tuple[int, int, int]) -> list[Place]:
    """The places behind what was there at the last reading."""
    newer = list(takewhile(lambda place: place.order > edge, reversed(places)))
    newer.reverse()
    return newer


def _samples(added: Sequence[Place], server_ms: int, since_ms: int | None) -> list[Sample]:
    """The end of every discontinuity that has grown since the last reading, if there was one."""
    newest = {place.discontinuity: place for place in added if place.start_us is not None}
    samples: list[Sample] = []
    for number, place in newest.items():
        if since_ms is None and number != added[-1].discontinuity:
            continue
        if place.end_us is not None and place.run_us is not None:
            end_ms, first_ms = us_to_ms(place.end_us), us_to_ms(place.run_us)
            late_ms = us_to_ms(place.unit_us)
            if since_ms is not None:
                late_ms = min(late_ms, max(0, server_ms - since_ms))
            first_ms = min(first_ms, end_ms)
            samples.append(Sample(end_ms, server_ms, number, first_ms, place.doubt_ms, late_ms))
    return samples


def _in_doubt(place: Place) -> str:
    return (
        f"no EXT-X-PROGRAM-DATE-TIME behind discontinuity {place.discontinuity}: positions are "
        f"continued from before it, in doubt by {place.doubt_ms} ms"
    )


def _noted(playlist: Playlist) -> str:
    return "".join(f"; {note}" for note in playlist.notes)
