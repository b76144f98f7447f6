"""Where a playlist's segments lie: their discontinuities and positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from flashsale.errors import InvalidRequest
from flashsale.streamtime.playlists import Playlist, Row


class Place(Struct, frozen=True):
    """One segment's place: its discontinuity, and its start if a date is known."""

    sequence: int
    discontinuity: int
    start_us: int | None
    available_us: int
    parts: int
    complete: bool

    @property
    def end_us(self) -> int | None:
        """Where what is there of it ends."""
        return None if self.start_us is None else self.start_us + self.available_us

    @property
    def order(self) -> tuple[int, int, int]:
        """Grows with every segment and part."""
        return (self.sequence, int(self.complete), self.parts)


def continue_numbers(
    playlist: Playlist, known: Mapping[int, Place], newest_discontinuity: int
) -> list[int]:
    """Each row's discontinuity, so that a segment keeps the number it had.

    EXT-X-DISCONTINUITY-SEQUENCE is what a packager should count and some forget to; segments seen
    before say better. Of a stream that started over, with nothing in common with what is known,
    the numbers go on behind the newest.
    """
    numbers: list[int] = []
    number = playlist.discontinuity
    for row in playlist.rows:
        number += row.discontinuous
        numbers.append(number)
    if not numbers:
        return numbers
    for row, number in zip(playlist.rows, numbers, strict=True):
        if row.sequence in known:
            correction = known[row.sequence].discontinuity - number
            return [number + correction for number in numbers]
    if playlist.skipped:
        raise InvalidRequest(
            "playlist",
            "must be a whole one, not a delta update (EXT-X-SKIP) that begins behind what was read",
        )
    if newest_discontinuity >= 0 and numbers[0] <= newest_discontinuity:
        behind = _follows(playlist, known, numbers[0], newest_discontinuity)
        correction = (newest_discontinuity if behind else newest_discontinuity + 1) - numbers[0]
        return [number + correction for number in numbers]
    return numbers


def _follows(
    playlist: Playlist, known: Mapping[int, Place], number: int, newest_discontinuity: int
) -> bool:
    """Whether a playlist without common segments still goes on in the newest discontinuity."""
    if not known:
        return False
    return playlist.rows[0].sequence > max(known) and number == newest_discontinuity


def place_rows(
    rows: Sequence[Row], numbers: Sequence[int], known: Mapping[int, Place]
) -> list[Place]:
    """Each row's start: its date, else continued from its neighbours of the same discontinuity.

    Forwards from dates by durations, backwards before the first date, and from what an earlier
    refresh knew where a discontinuity has no date left. Never across a discontinuity.
    """
    places = [
        Place(row.sequence, number, row.date_us, row.available_us, row.parts, row.complete)
        for row, number in zip(rows, numbers, strict=True)
    ]
    dated = {place.discontinuity for place in places if place.start_us is not None}
    for index, place in enumerate(places):
        seen = known.get(place.sequence)
        if place.discontinuity not in dated and seen is not None and seen.start_us is not None:
            places[index] = replace(place, start_us=seen.start_us)
            dated.add(place.discontinuity)
    for index in range(1, len(places)):
        place, before = places[index], places[index - 1]
        if place.start_us is None and before.discontinuity == place.discontinuity:
            places[index] = replace(place, start_us=before.end_us)
    for index in range(len(places) - 2, -1, -1):
        place, after = places[index], places[index + 1]
        same = after.discontinuity == place.discontinuity
        if same and place.start_us is None and after.start_us is not None:
            places[index] = replace(place, start_us=after.start_us - place.available_us)
    return places
