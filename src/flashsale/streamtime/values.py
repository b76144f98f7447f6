"""What goes into a clock and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

from msgspec import Struct

from flashsale.errors import InvalidRequest
from flashsale.limits import TIME_MAX_MS, check_int

Noise: TypeAlias = Literal["late", "both"]

DISCONTINUITY_MAX = 2**31 - 1
"""The highest number of a discontinuity."""


class Position(Struct, frozen=True):
    """A moment on the stream's media timeline.

    `ms`: by the encoder's labels, from -9,999,999,999,999 to 9,999,999,999,999 (HLS: milliseconds
    since the epoch by EXT-X-PROGRAM-DATE-TIME; otherwise unwrapped PTS or RTP time).
    `discontinuity`: the number of the stretch of the stream it lies in; None lets the clock find
    out, which it can as long as the labels of two stretches do not overlap.
    """

    ms: int
    discontinuity: int | None = None

    def __post_init__(self) -> None:
        check_position("position ms", self.ms)
        if self.discontinuity is not None:
            check_int("discontinuity", self.discontinuity, 0, DISCONTINUITY_MAX)


class Sample(Struct, frozen=True):
    """One sighting: at `server_ms` (server time) the stream was at `position_ms`.

    `first_ms`: the earliest position known to lie in the same discontinuity, if that is known; it
    is how a clock tells positions of neighbouring discontinuities apart.
    `doubt_ms`: how far the position may differ from what a player calls the same moment.
    `late_ms`: how late the sighting may be; it counts where that is more than the clock's doubt.
    """

    position_ms: int
    server_ms: int
    discontinuity: int = 0
    first_ms: int | None = None
    doubt_ms: int = 0
    late_ms: int = 0

    def __post_init__(self) -> None:
        check_position("position_ms", self.position_ms)
        check_int("server_ms", self.server_ms, 0, TIME_MAX_MS)
        check_int("discontinuity", self.discontinuity, 0, DISCONTINUITY_MAX)
        if self.first_ms is not None:
            check_int("first_ms", self.first_ms, -TIME_MAX_MS, self.position_ms)
        check_int("doubt_ms", self.doubt_ms, 0, TIME_MAX_MS)
        check_int("late_ms", self.late_ms, 0, TIME_MAX_MS)


class Relabel(Struct, frozen=True):
    """The encoder changed its labels: what was called p is called p + `shift_ms` from now on.

    `server_ms` is when that was seen.
    """

    shift_ms: int
    server_ms: int
    discontinuity: int = 0

    def __post_init__(self) -> None:
        check_int("shift_ms", self.shift_ms, -TIME_MAX_MS, TIME_MAX_MS)
        check_int("server_ms", self.server_ms, 0, TIME_MAX_MS)
        check_int("discontinuity", self.discontinuity, 0, DISCONTINUITY_MAX)


StreamEvent: TypeAlias = Sample | Relabel


class Mapped(Struct, frozen=True):
    """A position and its server time, with what is known about the mapping.

    `server_ms`: when the stream reached the position, in server time.
    `age_ms`: how old the clock's newest sample is; for `position_at`, how far the time asked for
    lies after it. Never negative.
    `reach_ms`: how far the position lies outside what was sampled; 0 inside.
    `uncertainty_ms`: how far `server_ms` may be off, apart from delays that all samples share (a
    clock that only sees a stream arrive cannot tell how long it took at least).
    `samples`: how many samples agree on it.
    """

    position_ms: int
    discontinuity: int
    server_ms: int
    age_ms: int
    reach_ms: int
    uncertainty_ms: int
    samples: int

    @property
    def position(self) -> Position:
        """The position with the discontinuity it was found in."""
        return Position(self.position_ms, self.discontinuity)


class Elapsed(Struct, frozen=True):
    """By how much one position lies after another.

    `ms`: negative if it lies before. `uncertainty_ms`: within one discontinuity, where the labels'
    difference is exact and no clock is involved, 0 unless its labels are in doubt (a discontinuity
    without a date); otherwise that of both mappings.
    """

    ms: int
    uncertainty_ms: int


def check_position(field: str, value: object) -> int:
    """A position: whole milliseconds."""
    return check_int(field, value, -TIME_MAX_MS, TIME_MAX_MS)


def as_position(field: str, value: object) -> Position:
    """A position, also when it is given as a bare number of milliseconds."""
    if isinstance(value, Position):
        return value
    return Position(check_position(field, value))


NOISES: Mapping[str, str] = MappingProxyType(
    {"late": "samples arrive late, never early", "both": "samples err to either side"}
)


def check_noise(value: str) -> None:
    """One of the two kinds of noise a clock knows."""
    if value not in NOISES:
        rule = " or ".join(f"{name!r} ({meaning})" for name, meaning in NOISES.items())
        raise InvalidRequest("noise", f"must be {rule}")
