"""A line through noisy offsets that a minority of wild samples cannot move.

An offset is server time minus position. Three steps, each with a breakdown point of one half:

- *Drift*: the repeated median of the slopes between samples (A. F. Siegel, "Robust regression
  using repeated medians", Biometrika 69(1), 1982), from 8 samples over at least 10 s on, within
  ±2,000 ppm. Clocks that drift apart are followed: the offset is told for the newest sample, not
  for the middle of the window.
- *Outliers*: samples further from the median than 3 scaled median absolute deviations are left
  out (Hampel's identifier; L. Davies and U. Gather, "The identification of multiple outliers",
  JASA 88, 1993).
- *Level*: the median of the rest if samples err to either side; if they can only be late, their
  lower envelope, for the least delayed sample tells the most (S. B. Moon, P. Skelly, D. Towsley,
  "Estimation and removal of clock skew from network delay measurements", INFOCOM 1999). One
  sample in sixteen may be wildly early without moving it: the level is the lowest but so many.

What is told of the error (`spread_ms`) stands a quarter of wild samples, wherever they are. If
samples can only be late, the truth lies between the earliest, less what all of them are late, and
the median of all. If they err to either side, the median of the good ones is among the middle
quarter of all. The drift's own error counts by the distance of the newest sample from the middle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from msgspec import Struct

from flashsale.streamtime.values import Noise, Sample

DRIFT_MAX = 0.002
"""Milliseconds of drift in one millisecond: 2,000 ppm, twice the worst seen in the field."""

_SIGMAS = 3 * 1.4826  # 1.4826 median absolute deviations are one standard deviation
_SLOPE_SAMPLES = 8
_SLOPE_SPAN_MS = 10_000
_TOLERATED_MS = 5  # a smaller deviation is never an outlier
_EARLY = 16  # of so many samples that can only be late, one that is early is left out


class Line(Struct, frozen=True):
    """Offsets near `newest_position_ms`, as the samples that agree tell them.

    late_ms: how late the best of those sightings may be; one that was left out vouches for nothing.
    """

    offset_ms: int
    drift: float
    first_position_ms: int
    newest_position_ms: int
    newest_server_ms: int
    spread_ms: float
    low_ms: float
    high_ms: float
    inliers: int
    late_ms: int

    def misfit_ms(self, sample: Sample) -> float:
        """How far a sample lies outside the band of those that agree; negative: too early."""
        ahead = sample.position_ms - self.newest_position_ms
        slack = abs(ahead) * DRIFT_MAX
        off = sample.server_ms - sample.position_ms - self.offset_ms - self.drift * ahead
        if off > self.high_ms + slack:
            return off - self.high_ms - slack
        if off < self.low_ms - slack:
            return off - self.low_ms + slack
        return 0.0


def fit(samples: Sequence[Sample], noise: Noise, doubt_ms: int) -> Line:
    """The line through at least one sample.

    Of samples that can only be late, those early by no more than `doubt_ms` are believed: they
    tell the most, and when most are late by the same time they would look like outliers.
    """
    middle = median(sample.position_ms for sample in samples)
    drift, drift_doubt = _drift(samples)
    rest = [
        sample.server_ms - sample.position_ms - drift * (sample.position_ms - middle)
        for sample in samples
    ]
    centre = median(rest)
    deviation = median(abs(value - centre) for value in rest)
    tolerated = doubt_ms if noise == "late" else 0
    cut = max(_SIGMAS * deviation, tolerated, _TOLERATED_MS)
    kept = [(r, s) for r, s in zip(rest, samples, strict=True) if abs(r - centre) <= cut]
    values = [r for r, _ in kept]
    if noise == "late":
        values.sort()
        level = values[len(values) // _EARLY]
        spread = max(centre - level, level - values[0])
    else:
        level = median(values)
        # At the end of a line the standard error is twice that of the middle.
        spread = 2 * _SIGMAS * deviation / math.sqrt(len(values)) + _middle_quarter(values, level)
    reference = max(sample.position_ms for _, sample in kept)
    if noise == "late":
        spread += drift_doubt * abs(reference - middle)
    return Line(
        offset_ms=round(level + drift * (reference - middle)),
        drift=drift,
        first_position_ms=min(s.position_ms if s.first_ms is None else s.first_ms for _, s in kept),
        newest_position_ms=reference,
        newest_server_ms=max(sample.server_ms for _, sample in kept),
        spread_ms=spread,
        low_ms=centre - cut - level,
        high_ms=centre + cut - level,
        inliers=len(kept),
        late_ms=min(sample.late_ms for _, sample in kept),
    )


def _middle_quarter(values: list[float], level: float) -> float:
    """How far the middle quarter of the sorted values reaches from their median."""
    values = sorted(values)
    away = -(-len(values) // 8)
    last = len(values) - 1
    low, high = values[max(0, last // 2 - away)], values[min(last, (last + 1) // 2 + away)]
    return max(level - low, high - level)


def _drift(samples: Sequence[Sample]) -> tuple[float, float]:
    """The repeated median of the offsets' slopes, and its doubt; 0 while too little is known."""
    if len(samples) < _SLOPE_SAMPLES:
        return 0.0, 0.0
    points = [(s.position_ms, s.server_ms - s.position_ms) for s in samples]
    if max(x for x, _ in points) - min(x for x, _ in points) < _SLOPE_SPAN_MS:
        return 0.0, 0.0
    slopes: list[float] = []
    for x, y in points:
        others = [(v - y) / (u - x) for u, v in points if u != x]
        if others:
            slopes.append(median(others))
    drift = median(slopes)
    doubt = _SIGMAS * median(abs(slope - drift) for slope in slopes) / math.sqrt(len(slopes))
    return max(-DRIFT_MAX, min(DRIFT_MAX, drift)), min(DRIFT_MAX, doubt)
