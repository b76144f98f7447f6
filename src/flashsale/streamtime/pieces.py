"""One unbroken piece of the map: its samples, its offset, and what may be said of it."""

from __future__ import annotations

import math
from collections import deque

from msgspec.structs import replace

from flashsale.streamtime.fitting import DRIFT_MAX, Line, fit
from flashsale.streamtime.values import Noise, Relabel, Sample

SAMPLES_MAX = 64
"""Samples kept of one piece; the oldest go first."""

STEP_SAMPLES = 5
"""So many samples in a row that agree with each other and not with the rest are a new piece."""

_SHIFTS_MAX = 16
_STEP_AGREE_MS = 100
_REFIT_AFTER = 16


class Piece:
    """Samples of one discontinuity between two steps. Slope 1: one offset for all of it."""

    def __init__(self, discontinuity: int, *, noise: Noise, window_ms: int, doubt_ms: int) -> None:
        self.discontinuity = discontinuity
        self._noise: Noise = noise
        self._window_ms = window_ms
        self._doubt_ms = doubt_ms
        self._samples: deque[Sample] = deque(maxlen=SAMPLES_MAX)
        self._forgotten: tuple[int, int] | None = None
        self._shifts: deque[tuple[int, int]] = deque(maxlen=_SHIFTS_MAX)
        self._outside: list[Sample] = []
        self._side = 0.0
        self._line: Line | None = None
        self._since_fit = 0

    def take(self, sample: Sample) -> list[Sample]:
        """Take a sample in; the samples of a new piece if this one proves that a step was made."""
        misfit = self._known().misfit_ms(sample) if self._samples else 0.0
        if misfit * self._side <= 0:
            self._outside = []
        self._side = misfit
        if misfit:
            self._outside.append(sample)
        self._forget_oldest()
        self._samples.append(sample)
        self._since_fit += 1
        if self._made_a_step():
            stepped, self._outside, self._side = self._outside, [], 0.0
            left = {id(sample) for sample in stepped}
            kept = [sample for sample in self._samples if id(sample) not in left]
            self._samples = deque(kept, maxlen=SAMPLES_MAX)
            self._refit()
            return stepped
        # A few samples are told apart only together; with many, one more changes little.
        if self._since_fit >= _REFIT_AFTER or len(self._samples) <= STEP_SAMPLES:
            self._refit()
        return []

    def relabel(self, change: Relabel) -> None:
        """Express everything known in the encoder's new labels."""
        shift = change.shift_ms
        self._shifts.append((change.server_ms, abs(shift)))
        if self._forgotten is not None:
            self._forgotten = (self._forgotten[0] + shift, self._forgotten[1] + shift)
        outside = {id(sample) for sample in self._outside}
        moved = [(sample, _shifted(sample, shift)) for sample in self._samples]
        self._samples = deque((new for _, new in moved), maxlen=SAMPLES_MAX)
        self._outside = [new for old, new in moved if id(old) in outside]
        self._refit()

    @property
    def line(self) -> Line:
        """The offset as of the newest sample that agrees with the others."""
        if self._since_fit:
            self._refit()
        return self._known()

    def reach_ms(self, position_ms: int) -> int:
        """How far a position lies outside what was sampled."""
        line = self.line
        first, last = line.first_position_ms, line.newest_position_ms
        if self._forgotten is not None:
            first, last = min(first, self._forgotten[0]), max(last, self._forgotten[1])
        return max(first - position_ms, position_ms - last, 0)

    def uncertainty_ms(self, position_ms: int) -> int:
        """How far the mapping of a position may be off."""
        line = self.line
        away = abs(position_ms - line.newest_position_ms) * DRIFT_MAX
        since = line.newest_server_ms - self._window_ms
        shifts = max((size for seen_ms, size in self._shifts if seen_ms >= since), default=0)
        doubt = max(self._doubt_ms, line.late_ms) * min(1, 3 / line.inliers)
        return math.ceil(line.spread_ms + doubt + away) + shifts + self.label_doubt_ms

    @property
    def label_doubt_ms(self) -> int:
        """How far its labels may differ from a player's, as the newest sample has it."""
        return self._samples[-1].doubt_ms

    def _known(self) -> Line:
        if self._line is None:
            self._refit()
        assert self._line is not None
        return self._line

    def _refit(self) -> None:
        """Fit again. The window counts from the newest sample that agrees, not from a wild one."""
        line = fit(self._samples, self._noise, self._doubt_ms)
        since = line.newest_server_ms - self._window_ms
        kept = [sample for sample in self._samples if sample.server_ms >= since]
        if len(kept) < len(self._samples):
            line = fit(kept, self._noise, self._doubt_ms)
        self._line = line
        self._since_fit = 0

    def _forget_oldest(self) -> None:
        """What a forgotten sample covered stays covered, if it agreed with those that came."""
        if len(self._samples) < SAMPLES_MAX:
            return
        oldest = self._samples[0]
        if self._known().misfit_ms(oldest) == 0.0:
            first = oldest.position_ms if oldest.first_ms is None else oldest.first_ms
            low, high = self._forgotten or (first, oldest.position_ms)
            self._forgotten = (min(low, first), max(high, oldest.position_ms))

    def _made_a_step(self) -> bool:
        if len(self._outside) < STEP_SAMPLES or len(self._samples) <= STEP_SAMPLES:
            return False
        offsets = [sample.server_ms - sample.position_ms for sample in self._outside]
        line = self._known()
        agree = max(_STEP_AGREE_MS, line.high_ms - line.low_ms)
        return max(offsets) - min(offsets) <= agree


def _shifted(sample: Sample, shift_ms: int) -> Sample:
    first = None if sample.first_ms is None else sample.first_ms + shift_ms
    return replace(sample, position_ms=sample.position_ms + shift_ms, first_ms=first)
