"""One refresh of a media playlist as plain values, and how much of its text another one has."""

from __future__ import annotations

from msgspec import Struct

from flashsale.streamtime.daterange import DateRangeTag

_COMPARED = 1_024  # rows compared at once


class Row(Struct, frozen=True):
    """One media segment, or the parts there are of one. `available_us`: how much of it is there."""

    sequence: int
    discontinuous: bool
    date_us: int | None
    available_us: int
    parts: int
    complete: bool


class Playlist(Struct, frozen=True):
    """One refresh of a media playlist, as far as it was read, and what the next can build on.

    `rows`: consecutive segments, the last perhaps incomplete; those that a delta update skips are
    the earlier refresh's. `read_from`: index of the first that stands in the text.
    `same_until`: the sequence number up to which rows after that one are the earlier refresh's.
    `ends`: where in the text the line of each URI ends, less `ends_at`.
    `tags`, `unread`, `notes`: EXT-X-DATERANGE tags and notes, with the
    segment they stand in front of.
    """

    text: str
    discontinuity: int
    ended: bool
    rows: list[Row]
    read_from: int
    same_until: int
    ends: list[int]
    ends_at: int
    tags: list[tuple[int, DateRangeTag]]
    unread: list[tuple[int, str]]
    notes: dict[str, int]
    hint_uri: str | None


def last_same(before: Playlist, index: int, text: str, at: int) -> int:
    """The last row of a refresh up to which another text, from `at` on, has the same lines.

    Compared in pieces, the size halved at a difference: every character about once.
    """
    old, ends = before.text, before.ends
    good, size = index, _COMPARED
    while size and good < len(ends) - 1:
        upto = min(good + size, len(ends) - 1)
        piece = old[ends[good] + before.ends_at : ends[upto] + before.ends_at]
        if text.startswith(piece, at + ends[good] - ends[index]):
            good = upto
        else:
            size //= 2
    # The line of the last URI must end there too, and not go on.
    stop = at + ends[good] - ends[index]
    return good if text[stop : stop + 1] in ("", "\n") else max(index, good - 1)
