"""Figures out of a run's facts: percentiles, counts, the course over time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from flashsale.errors import ConfigurationError
from flashsale.models import Answer, Outcome
from flashsale.rehearsal.crowd import Plan
from flashsale.rehearsal.facts import Facts, Result

BUCKETS = 50
"""Parts of the run for which attempts and decisions are counted, for a picture."""

LONGEST_US = 600_000_000

_PERCENTILES = (50, 90, 99, 99.9, 99.99, 100)


class Percentiles(Struct, frozen=True):
    """Milliseconds. Only of what was answered."""

    p50: float
    p90: float
    p99: float
    p99_9: float
    p99_99: float
    max: float


class Batch(Struct, frozen=True):
    """Attempts that travelled in one call to the engine."""

    median: int
    max: int


class Picture(Struct, frozen=True, kw_only=True):
    """The course of the surge, in parts of `bucket_s` seconds, each per second.

    offered, answered: attempts due and attempts answered. held: those that got stock. later:
    what holders did afterwards and was answered.
    """

    bucket_s: float
    offered: list[float]
    answered: list[float]
    held: list[float]
    later: list[float]


def require_extra() -> None:
    """Raise ConfigurationError now, not after the run, if the extra is not installed."""
    new_histogram()


def new_histogram() -> Any:
    """An HdrHistogram of microseconds: three figures, from 1 µs to ten minutes."""
    try:
        from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]
    except ImportError as error:
        raise ConfigurationError(
            "a rehearsal needs hdrhistogram: pip install 'flashsale[cli]'"
        ) from error
    return HdrHistogram(1, LONGEST_US, 3)


def record_ms(histogram: Any, milliseconds: float) -> None:
    """Record a time in a histogram of `new_histogram`; beyond its bounds counts as the bound."""
    histogram.record_value(min(max(1, round(milliseconds * 1000)), LONGEST_US))


def percentiles_of(histogram: Any) -> Percentiles:
    """The percentiles of a histogram of `new_histogram`; all zero if it is empty."""
    if not histogram.get_total_count():
        return Percentiles(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    told = histogram.get_percentile_to_value_dict(_PERCENTILES)
    return Percentiles(*(round(told[at] / 1000, 3) for at in _PERCENTILES))


def percentiles(milliseconds: Iterable[float]) -> Percentiles:
    """The percentiles of these times."""
    histogram = new_histogram()
    for value in milliseconds:
        record_ms(histogram, value)
    return percentiles_of(histogram)


def cpu_spent(before: Mapping[str, Any], after: Mapping[str, Any]) -> float:
    """Seconds of CPU time that a server spent between two answers to INFO cpu."""
    fields = ("used_cpu_user", "used_cpu_sys")
    return sum(float(after[field]) - float(before[field]) for field in fields)


def counted(results: Iterable[Result | None]) -> tuple[Counter[str], Counter[str]]:
    """How often each outcome and each kind of error was answered."""
    outcomes: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for result in results:
        if isinstance(result, Answer):
            outcomes[result.outcome.value] += 1
        elif result is not None:
            errors[type(result).__name__] += 1
    return outcomes, errors


def batch_of(sizes: Sequence[int]) -> Batch:
    """The sizes of all calls."""
    in_order = sorted(sizes)
    return Batch(in_order[len(in_order) // 2], in_order[-1]) if in_order else Batch(0, 0)


def picture_of(plan: Plan, facts: Facts, seconds: float) -> Picture:
    """The course of the surge."""
    width = seconds / BUCKETS

    def per_s(times: Iterable[float]) -> list[float]:
        counts = [0] * BUCKETS
        for at in times:
            if 0 <= at < seconds:
                counts[min(BUCKETS - 1, int(at / width))] += 1
        return [round(count / width, 1) for count in counts]

    results = zip(facts.answered_s, facts.results, strict=True)
    return Picture(
        bucket_s=width,
        offered=per_s(plan.at_s),
        answered=per_s(facts.answered_s),
        held=per_s(
            at
            for at, result in results
            if isinstance(result, Answer) and result.outcome is Outcome.HELD and not result.replayed
        ),
        later=per_s(step.answered_s for step in facts.follow_ups),
    )
