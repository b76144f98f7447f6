"""Where a playlist's segments lie: their discontinuities and positions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from msgspec import Struct

from flashsale.streamtime.rows import Playlist, Row

UNDATED_DOUBT_MS = 10_000
"""Doubt of a position that is continued across a discontinuity: the break's length is unknown.

Each further discontinuity without a date adds as much. (A break that takes longer is a stream that
was down; its packager has a date to write.)
"""

JUMP_US = 500_000
"""Between the end of one label and the next label: a break that has no tag."""


ROUNDED_US = 1_000
"""A date that differs by so little from the same segment's label is that label, rounded."""


class Place(Struct, frozen=True):
    """One segment's place: its discontinuity, and its start if a date is known.

    `run_us`: the earliest position known of the unbroken run of labels it lies in. `doubt_ms`: 0
    if a date of its own discontinuity tells its start.
    """

    sequence: int
    discontinuity: int
    start_us: int | None
    run_us: int | None
    doubt_ms: int
    available_us: int
    parts: int
    complete: bool

    @property
    def end_us(self) -> int | None:
        """Where what is there of it ends."""
        return None if self.start_us is None else self.start_us + self.available_us

    @property
    def unit_us(self) -> int:
        """How long its newest part is, or all of it if it has none: what comes next is as long."""
        return self.available_us // max(1, self.parts)

    @property
    def order(self) -> tuple[int, int, int]:
        """Grows with every segment and part. (The parts of whole segments leave the playlist.)"""
        return (self.sequence, int(self.complete), 0 if self.complete else self.parts)


class Known:
    """The places of consecutive segments, by sequence number."""

    def __init__(self, places: Sequence[Place] = ()) -> None:
        self.places = list(places)
        self.first = self.places[0].sequence if self.places else 0

    def __bool__(self) -> bool:
        return bool(self.places)

    def at(self, sequence: int) -> Place | None:
        """The place of a segment, if it is among them."""
        index = sequence - self.first
        return self.places[index] if 0 <= index < len(self.places) else None

    @property
    def last(self) -> Place:
        """The newest; there must be one."""
        return self.places[-1]


def continue_numbers(playlist: Playlist, known: Known, newest_discontinuity: int) -> list[int]:
    """Each row's discontinuity, so that a segment keeps the number it had.

    EXT-X-DISCONTINUITY-SEQUENCE is what a packager should count and some forget to; segments seen
    before say better. Of a stream that started over, with nothing in common with what is known,
    the numbers go on behind the newest.
    """
    numbers = _counted(playlist.rows, playlist.discontinuity)
    for row, number in zip(playlist.rows, numbers, strict=True):
        place = known.at(row.sequence)
        if place is not None:
            return [one + place.discontinuity - number for one in numbers]
    if newest_discontinuity >= 0 and numbers[0] <= newest_discontinuity:
        follows = known and playlist.rows[0].sequence > known.last.sequence
        same = follows and numbers[0] == newest_discontinuity
        correction = newest_discontinuity + (not same) - numbers[0]
        return [number + correction for number in numbers]
    return numbers


def place_rows(
    rows: Sequence[Row], numbers: Sequence[int], known: Known, before: Place | None = None
) -> list[Place]:
    """Each row's start: its date, else continued from its neighbours of the same discontinuity.

    Forwards from dates by durations, the first from what an earlier refresh knew, unless dates
    have changed since, or backwards from the first date. A discontinuity that never had a date is
    continued from the one before it, as players do (RFC 8216, 6.3.3), in doubt by
    `UNDATED_DOUBT_MS`. Never backwards across a discontinuity. `before` is the place in front of
    the first row.
    """
    places: list[Place] = []
    for number, group in groupby(zip(rows, numbers, strict=True), key=lambda pair: pair[1]):
        stretch = [row for row, _ in group]
        start_us, doubt_ms = _anchor(stretch, number, known, before)
        for row in stretch:
            start_us = start_us if row.date_us is None else _label_us(row, known)
            place = Place(
                sequence=row.sequence,
                discontinuity=number,
                start_us=start_us,
                run_us=_run_us(start_us, row.sequence, number, known, before),
                doubt_ms=doubt_ms,
                available_us=row.available_us,
                parts=row.parts,
                complete=row.complete,
            )
            places.append(place)
            start_us, before = place.end_us, place
    return places


def extend_places(playlist: Playlist, known: Known) -> list[Place] | None:
    """The places of a refresh that only adds to what is known; None if all must be placed anew."""
    last = known.at(playlist.same_until)
    front = playlist.rows[playlist.read_from]
    seen = known.at(front.sequence)
    if last is None or seen is None or not seen.complete or front.available_us != seen.available_us:
        return None
    if front.date_us is not None and _label_us(front, known) != seen.start_us:
        return None
    base = playlist.rows[0].sequence
    added = playlist.rows[playlist.same_until + 1 - base :]
    numbers = _counted(added, last.discontinuity)
    sure = last.start_us is not None and not last.doubt_ms
    dated = {n for row, n in zip(added, numbers, strict=True) if row.date_us is not None}
    if not sure and last.discontinuity in dated:
        return None
    places = place_rows(added, numbers, known, before=last)
    for place in places:
        was = known.at(place.sequence)
        if was and (was.start_us, was.discontinuity) != (place.start_us, place.discontinuity):
            return None
    return known.places[base - known.first : playlist.same_until + 1 - known.first] + places


def _counted(rows: Sequence[Row], number: int) -> list[int]:
    """Numbers of discontinuities by their tags alone."""
    numbers: list[int] = []
    for row in rows:
        number += row.discontinuous
        numbers.append(number)
    return numbers


def _anchor(
    stretch: Sequence[Row], number: int, known: Known, before: Place | None
) -> tuple[int | None, int]:
    """Where the first of a discontinuity's rows starts, and the doubt in it."""
    if before is not None and before.discontinuity == number and before.end_us is not None:
        dated = any(row.date_us is not None for row in stretch)
        return before.end_us, 0 if dated else before.doubt_ms
    known_first = _known_start(stretch, number, known)
    if known_first is not None and not known_first[1] and not _is_restamped(stretch, known):
        return known_first
    into_us = 0
    for row in stretch:
        label_us = _label_us(row, known)
        if label_us is not None:
            return label_us - into_us, 0
        into_us += row.available_us
    if known_first is not None:
        return known_first
    if before is not None and before.end_us is not None:
        return before.end_us, before.doubt_ms + UNDATED_DOUBT_MS
    return None, 0


def _known_start(stretch: Sequence[Row], number: int, known: Known) -> tuple[int, int] | None:
    """Where an earlier refresh says that it starts, though its dates may have left since."""
    into_us = 0
    for row in stretch:
        seen = known.at(row.sequence)
        if seen is not None and seen.start_us is not None and seen.discontinuity == number:
            return seen.start_us - into_us, seen.doubt_ms
        into_us += row.available_us
    return None


def _is_restamped(stretch: Sequence[Row], known: Known) -> bool:
    """Whether a date contradicts what the same segment was labelled before."""
    for row in stretch:
        seen = known.at(row.sequence)
        if seen is not None and row.date_us is not None and _label_us(row, known) != seen.start_us:
            return True
    return False


def _label_us(row: Row, known: Known) -> int | None:
    """A row's date, or what the same segment was labelled before if that is the same, rounded."""
    seen = known.at(row.sequence)
    if seen is None or seen.start_us is None or row.date_us is None:
        return row.date_us
    return seen.start_us if abs(row.date_us - seen.start_us) <= ROUNDED_US else row.date_us


def _run_us(
    start_us: int | None, sequence: int, number: int, known: Known, before: Place | None
) -> int | None:
    """The first label of the unbroken run that a start belongs to."""
    if start_us is None:
        return None
    if before is not None and before.discontinuity == number and before.end_us is not None:
        goes_on = abs(start_us - before.end_us) <= JUMP_US
        return before.run_us if goes_on else start_us
    seen = known.at(sequence)
    return seen.run_us if seen is not None and seen.start_us == start_us else start_us
