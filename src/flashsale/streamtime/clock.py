"""The one place where positions on a stream and server time meet."""

from __future__ import annotations

from collections.abc import Iterable

from flashsale.errors import InvalidRequest
from flashsale.limits import TIME_MAX_MS, check_int
from flashsale.streamtime.pieces import Piece
from flashsale.streamtime.values import (
    Elapsed,
    Mapped,
    Noise,
    Position,
    Relabel,
    Sample,
    StreamEvent,
    as_position,
    check_noise,
)

PIECES_MAX = 16
"""Pieces (discontinuities, steps) a clock remembers; the oldest go first."""


class StreamClock:
    """Maps positions on a stream's media timeline to server time, and back.

    The map is piecewise: one piece a discontinuity, each with slope 1, so that differences of
    positions within a piece are exact whatever the offset. A piece's offset is that of the newest
    samples that agree (`flashsale.streamtime.fitting` tells the method); clocks that drift apart
    by up to 2,000 ppm are followed. Samples that step aside together, an unmarked discontinuity,
    begin a piece of their own after the fifth.

    What the offset means depends on the samples. `noise="late"` (the default) is for samples
    stamped when the stream was seen, such as a playlist's edge when it was fetched: delays only
    ever add, the least ones count, and the delay that every sample shares stays in. `noise="both"`
    is for pairs stamped at the source, which err to either side.

    Wild samples: those off by more than `doubt_ms` ("late") or three deviations ("both") move
    nothing as long as they are a third or fewer. Of nearer ones, which cannot be told apart, one
    in sixteen that is early does not move a "late" clock; and while they are a quarter or fewer,
    wherever and however far off, the uncertainty told covers what they move (in 99 of 100 cases).

    `max_age_ms`: how old the newest sample may be and how far a position may lie outside what was
    sampled; beyond, the clock says so instead of guessing (1 to 3,600,000, default 30,000).
    `window_ms`: how long a sample counts (1,000 to 3,600,000, default 60,000; at most 64 samples
    of a piece are kept). `doubt_ms`: how far off a lone sample may be; n samples that agree leave
    3/n of it (0 to 60,000, default 1,000). `HlsTimeline` says itself if a sample may be later.

    Pure: no I/O and no clock of its own, the same calls give the same results. Memory is bounded
    by 16 pieces of 64 samples. Not safe for threads by itself. Errors are InvalidRequest.
    """

    def __init__(
        self,
        *,
        noise: Noise = "late",
        max_age_ms: int = 30_000,
        window_ms: int = 60_000,
        doubt_ms: int = 1_000,
    ) -> None:
        check_noise(noise)
        self.noise: Noise = noise
        self.max_age_ms = check_int("max_age_ms", max_age_ms, 1, 3_600_000)
        self.window_ms = check_int("window_ms", window_ms, 1_000, 3_600_000)
        self.doubt_ms = check_int("doubt_ms", doubt_ms, 0, 60_000)
        self._pieces: list[Piece] = []

    def add(self, position_ms: int, server_ms: int, discontinuity: int = 0) -> None:
        """One sighting: at `server_ms` the stream was at `position_ms`.

        Discontinuities are numbered upwards; a number below the newest is taken as long as the
        clock still remembers it. InvalidRequest otherwise, and for values out of bounds.
        """
        self._take_sample(Sample(position_ms, server_ms, discontinuity))

    def take(self, events: StreamEvent | Iterable[StreamEvent]) -> None:
        """What a source made of a playlist, a packet or a report: samples and relabellings."""
        for event in (events,) if isinstance(events, Sample | Relabel) else events:
            if isinstance(event, Sample):
                self._take_sample(event)
            else:
                for piece in self._pieces:
                    if piece.discontinuity == event.discontinuity:
                        piece.relabel(event)

    def server_time(self, position: int | Position, *, now_ms: int) -> Mapped:
        """When the stream was, or will be, at a position.

        `now_ms` is the server time now, by the clock that stamped the samples. InvalidRequest,
        with what to do, if the clock has no sample, if the newest is older than `max_age_ms`, if
        the position lies further than that outside what was sampled, or if it may lie in two
        discontinuities that disagree about it.
        """
        at = as_position("position", position)
        age_ms = self._age_ms(now_ms)
        piece = self._piece_of(at)
        return self._mapped(piece, at.ms, age_ms)

    def position_at(self, server_ms: int) -> Mapped:
        """Where the stream was at a server time: the inverse of `server_time`, exactly.

        InvalidRequest if that time lies further than `max_age_ms` outside what was sampled.
        """
        check_int("server_ms", server_ms, 0, TIME_MAX_MS)
        self._require_samples()
        # A piece lasts until the next one begins; the nearest answers, of two equals the newer.
        best = min(
            reversed(self._pieces),
            key=lambda piece: piece.reach_ms(server_ms - piece.line.offset_ms),
        )
        age_ms = max(0, server_ms - self._newest_ms())
        return self._mapped(best, server_ms - best.line.offset_ms, age_ms)

    def elapsed(
        self, since: int | Position, until: int | Position, *, now_ms: int | None = None
    ) -> Elapsed:
        """By how much one position lies after another: a tap's after the cue's.

        Within one discontinuity that is the difference of the labels, exact, and needs neither
        samples nor `now_ms` if both positions name it. Otherwise both are mapped to server time,
        with the errors of `server_time`, and the difference is that of the times. To give a tap
        from behind a discontinuity to the engine, which compares positions of one timeline, pass
        it as the cue's position plus `elapsed(cue, tap, now_ms=now).ms`.
        """
        start, end = as_position("since", since), as_position("until", until)
        named = start.discontinuity is not None and start.discontinuity == end.discontinuity
        pieces = self._numbered(end.discontinuity)
        if named and len(pieces) <= 1:
            return Elapsed(end.ms - start.ms, max((p.label_doubt_ms for p in pieces), default=0))
        if now_ms is None:
            rule = "must be the server time now when positions of two stretches are compared"
            raise InvalidRequest("now_ms", rule)
        age_ms = self._age_ms(now_ms)
        first, second = self._piece_of(start), self._piece_of(end)
        if first is second:
            return Elapsed(end.ms - start.ms, first.label_doubt_ms)
        begun = self._mapped(first, start.ms, age_ms)
        ended = self._mapped(second, end.ms, age_ms)
        doubt_ms = begun.uncertainty_ms + ended.uncertainty_ms
        return Elapsed(ended.server_ms - begun.server_ms, doubt_ms)

    def lag_ms(self, position: int | Position, *, now_ms: int) -> int:
        """How far behind the stream a viewer at this position is, at the server time `now_ms`.

        That is glass to glass, less what the clock's samples were late. A player's own `latency`
        (hls.js, Shaka) is not this figure: it is measured from the end of the playlist that the
        player knows, and leaves out encoding, packaging and the network. Errors: `server_time`.
        """
        return now_ms - self.server_time(position, now_ms=now_ms).server_ms

    def _take_sample(self, sample: Sample) -> None:
        same = self._numbered(sample.discontinuity)
        if not same:
            if self._pieces and sample.discontinuity < self._pieces[-1].discontinuity:
                newest = self._pieces[-1].discontinuity
                raise InvalidRequest(
                    "discontinuity",
                    f"must not go back from {newest} to {sample.discontinuity}: "
                    "a stream that starts over needs a new StreamClock, or higher numbers",
                )
            same = [self._open(sample.discontinuity)]
        stepped = same[-1].take(sample)
        if stepped:
            after = self._open(sample.discontinuity, behind=same[-1])
            for one in stepped:
                after.take(one)

    def _open(self, discontinuity: int, *, behind: Piece | None = None) -> Piece:
        piece = Piece(
            discontinuity, noise=self.noise, window_ms=self.window_ms, doubt_ms=self.doubt_ms
        )
        place = self._pieces.index(behind) + 1 if behind else len(self._pieces)
        self._pieces.insert(place, piece)
        del self._pieces[:-PIECES_MAX]
        return piece

    def _numbered(self, discontinuity: int | None) -> list[Piece]:
        return [piece for piece in self._pieces if piece.discontinuity == discontinuity]

    def _piece_of(self, at: Position) -> Piece:
        """The piece a position lies in, or lies nearest to."""
        pieces = self._pieces if at.discontinuity is None else self._numbered(at.discontinuity)
        if not pieces:
            known = sorted({piece.discontinuity for piece in self._pieces})
            raise InvalidRequest(
                "discontinuity",
                f"must be one the clock has samples of ({known}), not {at.discontinuity}",
            )
        nearest = min(piece.reach_ms(at.ms) for piece in pieces)
        found = [piece for piece in reversed(pieces) if piece.reach_ms(at.ms) == nearest]
        for other in found[1:]:
            apart = abs(found[0].line.offset_ms - other.line.offset_ms)
            doubt = found[0].uncertainty_ms(at.ms) + other.uncertainty_ms(at.ms)
            if other.discontinuity != found[0].discontinuity and apart > doubt:
                raise InvalidRequest(
                    "discontinuity",
                    f"must be named: position {at.ms} lies in {other.discontinuity} and in "
                    f"{found[0].discontinuity}, whose clocks are {apart} ms apart",
                )
        return found[0]

    def _mapped(self, piece: Piece, position_ms: int, age_ms: int) -> Mapped:
        reach_ms = piece.reach_ms(position_ms)
        if reach_ms > self.max_age_ms:
            raise InvalidRequest(
                "position",
                f"must lie within {self.max_age_ms} ms of what was sampled of discontinuity "
                f"{piece.discontinuity}; {position_ms} lies {reach_ms} ms outside: add newer "
                "samples, or name the discontinuity it belongs to",
            )
        return Mapped(
            position_ms=position_ms,
            discontinuity=piece.discontinuity,
            server_ms=position_ms + piece.line.offset_ms,
            age_ms=age_ms,
            reach_ms=reach_ms,
            uncertainty_ms=piece.uncertainty_ms(position_ms),
            samples=piece.line.inliers,
        )

    def _age_ms(self, now_ms: int) -> int:
        check_int("now_ms", now_ms, 0, TIME_MAX_MS)
        age_ms = now_ms - self._newest_ms()
        if age_ms > self.max_age_ms:
            raise InvalidRequest(
                "clock",
                f"must have a sample of the last {self.max_age_ms} ms; the newest is {age_ms} ms "
                "old: the source has stopped, or nobody feeds the clock",
            )
        if age_ms < -self.max_age_ms:
            raise InvalidRequest(
                "now_ms",
                f"must be by the clock that stamped the samples; the newest is {-age_ms} ms in "
                "its future",
            )
        return max(0, age_ms)

    def _newest_ms(self) -> int:
        self._require_samples()
        return max(piece.line.newest_server_ms for piece in self._pieces)

    def _require_samples(self) -> None:
        if not self._pieces:
            raise InvalidRequest("clock", "must have a sample: add one, or take() a source's")
