"""What a rehearsal found, as one value: measured, judged, and ready for JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Struct

from flashsale.models import SkuView
from flashsale.rehearsal.crowd import Plan
from flashsale.rehearsal.facts import NEVER, Facts
from flashsale.rehearsal.measures import (
    Batch,
    Percentiles,
    Picture,
    batch_of,
    counted,
    percentiles,
    picture_of,
)
from flashsale.rehearsal.truth import Truth

PASSED, FAILED, VOID = 0, 1, 3
"""Exit codes. 2 is what command lines answer to a wrong option."""

LAG_P99_MAX_MS = 10.0
CPU_MAX = 0.9
UNANSWERED_MAX = 0.01


class Server(Struct, frozen=True, kw_only=True):
    """Where the run went. cpu: share of one core while buyers arrived, None if not told."""

    name: str
    version: str
    embedded: bool
    address: str
    cpu: float | None = None


class Setup(Struct, frozen=True, kw_only=True):
    """Everything that was decided before the run."""

    scenario: str
    about: str
    curve: str
    sale: str
    scale: str
    rate_divisor: float
    time_factor: float
    seconds: float
    peak_per_s: float
    full_peak_per_s: float
    seed: int | str
    durability: str
    cores: int
    server: Server
    crowd_sources: dict[str, str]
    assumed: dict[str, str]


class Timed(Struct, frozen=True, kw_only=True):
    """A run's times: of attempts, of later steps, and of the generator itself."""

    latency: Percentiles
    later_latency: Percentiles
    schedule_lag: Percentiles


class Report(Struct, frozen=True, kw_only=True):
    """The result of a rehearsal.

    offered: attempts that the plan fixed, = completed + dropped + unanswered. outcomes: of
        attempts to hold. later: per verb, what holders' later steps were answered.
    decisions_per_s: answers to attempts and later steps, over the time until the last
        attempt was answered; peak_decisions_per_s: the best part of the run.
    latency_ms: of attempts, from the intended time to the answer. later_latency_ms: of later
        steps. schedule_lag_ms: from the intended time to the moment the driver took an
        attempt up: how late the generator itself was.
    void: why this run does not count, whatever it found; empty if it does.
    exit_code: 1 if anything was oversold, lost or broken; else 3 if void; else 0.
    """

    scenario: str
    setup: Setup
    server: str
    durability: str
    scale: str
    seconds: float
    total_s: float
    offered: int
    completed: int
    dropped: int
    unanswered: int
    decisions_per_s: float
    peak_decisions_per_s: float
    outcomes: dict[str, int]
    later: dict[str, dict[str, int]]
    errors: dict[str, int]
    oversold: int
    lost: int
    conservation_ok: bool
    truth: Truth
    stock: list[SkuView]
    latency_ms: Percentiles
    later_latency_ms: Percentiles
    schedule_lag_ms: Percentiles
    generator_cpu: float
    batch: Batch
    left_over: int
    picture: Picture
    void: list[str]
    passed: bool
    exit_code: int
    notes: list[str]

    def to_json(self) -> str:
        """One JSON object on one line."""
        return msgspec.json.encode(self).decode()


def build_report(
    *,
    setup: Setup,
    plan: Plan,
    facts: Facts,
    truth: Truth,
    stock: Sequence[SkuView],
    total_s: float,
    notes: Sequence[str] = (),
    timed: Timed | None = None,
) -> Report:
    """Measure the facts, add the verdict.

    timed: what was measured as the run went; None: it is taken from the facts.
    """
    outcomes, errors = counted(facts.results)
    later, later_errors = _later_counted(facts)
    completed = outcomes.total()
    unanswered = plan.offered - completed - facts.dropped
    timed = timed or _timed(plan, facts)
    picture = picture_of(plan, facts, setup.seconds)
    void = void_reasons(plan.offered, facts, timed.schedule_lag, unanswered)
    return Report(
        scenario=setup.scenario,
        setup=setup,
        server=f"{setup.server.name} {setup.server.version}",
        durability=setup.durability,
        scale=setup.scale,
        seconds=setup.seconds,
        total_s=round(total_s, 2),
        offered=plan.offered,
        completed=completed,
        dropped=facts.dropped,
        unanswered=unanswered,
        decisions_per_s=_decisions_per_s(facts, setup.seconds),
        peak_decisions_per_s=max(map(sum, zip(picture.answered, picture.later, strict=True))),
        outcomes=dict(outcomes.most_common()),
        later={verb: dict(told.most_common()) for verb, told in later.items()},
        errors=dict((errors + later_errors).most_common()),
        oversold=truth.oversold,
        lost=truth.lost,
        conservation_ok=truth.conservation_ok,
        truth=truth,
        stock=list(stock),
        latency_ms=timed.latency,
        later_latency_ms=timed.later_latency,
        schedule_lag_ms=timed.schedule_lag,
        generator_cpu=round(facts.generator_cpu, 3),
        batch=batch_of(facts.batches),
        left_over=facts.left_over,
        picture=picture,
        void=void,
        passed=truth.ok and not void,
        exit_code=FAILED if not truth.ok else VOID if void else PASSED,
        notes=list(notes),
    )


def _timed(plan: Plan, facts: Facts) -> Timed:
    steps = facts.follow_ups
    return Timed(
        latency=percentiles(_since_due(plan, facts.answered_s)),
        later_latency=percentiles((step.answered_s - step.due_s) * 1000 for step in steps),
        schedule_lag=percentiles(_since_due(plan, facts.picked_s)),
    )


def _since_due(plan: Plan, times: Sequence[float]) -> Iterator[float]:
    """Milliseconds from the intended time of every attempt to what happened to it."""
    for due, at in zip(plan.at_s, times, strict=True):
        if at != NEVER:
            yield (at - due) * 1000


def _later_counted(facts: Facts) -> tuple[dict[str, Counter[str]], Counter[str]]:
    later: dict[str, Counter[str]] = {}
    errors: Counter[str] = Counter()
    for step in facts.follow_ups:
        told, failed = counted([step.result])
        later.setdefault(step.verb.value, Counter()).update(told)
        errors.update(failed)
    return later, errors


def _decisions_per_s(facts: Facts, seconds: float) -> float:
    answered = [at for at in facts.answered_s if at != NEVER]
    busy_s = max([*answered, seconds])
    later = sum(step.answered_s <= busy_s for step in facts.follow_ups)
    return round((len(answered) + later) / busy_s, 1)


def void_reasons(
    offered: int, facts: Facts, schedule_lag: Percentiles, unanswered: int
) -> list[str]:
    """Why a run does not count; each reason with its figure and bound."""
    reasons = []
    if not offered:
        reasons.append("no attempt fell into the run")
    if schedule_lag.p99 > LAG_P99_MAX_MS:
        reasons.append(
            f"the generator was late: schedule lag p99 {schedule_lag.p99:.1f} ms is above "
            f"{LAG_P99_MAX_MS:g} ms"
        )
    if facts.dropped:
        reasons.append(f"{facts.dropped:,} attempts were dropped, too many were unanswered")
    if facts.generator_cpu > CPU_MAX:
        reasons.append(
            f"the generator used {facts.generator_cpu:.0%} of its core, above {CPU_MAX:.0%}"
        )
    if unanswered > UNANSWERED_MAX * offered:
        reasons.append(
            f"{unanswered:,} of {offered:,} attempts got no answer, more than {UNANSWERED_MAX:.0%}"
        )
    return reasons
