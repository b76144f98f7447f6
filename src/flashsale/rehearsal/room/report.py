"""What a live room's rehearsal found: judged, as one value, and ready for JSON."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from flashsale.models import Answer, Outcome, Sale
from flashsale.rehearsal.claims import claims_of
from flashsale.rehearsal.facts import NEVER, Facts, Result
from flashsale.rehearsal.measures import Percentiles, percentiles
from flashsale.rehearsal.report import FAILED, PASSED, VOID, Server
from flashsale.rehearsal.room.judging import (
    Settled,
    check_records,
    outcomes_of,
    void_reasons,
    with_results,
)
from flashsale.rehearsal.room.parity import EXPECTED_MIN, RULE, Draw, Parity, parity_of
from flashsale.rehearsal.room.scenario import LiveRoom, RoomPlan
from flashsale.rehearsal.scenarios import Size
from flashsale.rehearsal.truth import PROBLEMS_MAX, ServerSide, judge


class Won(Struct, frozen=True):
    """Wins of a cohort, and their share of its taps."""

    wins: int
    rate: float


class CohortResult(Struct, frozen=True, kw_only=True):
    """One cohort over all cues: taps (the same for both ways), and entries that counted."""

    lag_s: float
    share: float
    taps: int
    entrants: int
    first: Won
    windows: Won


class RoomReport(Struct, frozen=True, kw_only=True):
    """The result of a live room's rehearsal.

    cohorts: by lag; `first` is first come, first served (plain holds on twin skus, in the order
        of arrival), `windows` the draws, both of the same taps. parity: the slowest cohort's win
        rate over the fastest's, with windows; parity_error: the standard error it would have in
        fair draws; parity_first: the same ratio, first come, first served.
    verified: records that `flashsale.verify` checked and found right, of `cues`.
    outcomes: what entries, holds and questions for the result were answered.
    void: why this run does not count; problems: why it failed.
    exit_code: 1 if anything was oversold or lost, a record does not verify, or parity is beyond
        noise; else 3 if void; else 0.
    """

    scenario: str
    about: str
    server: str
    embedded: bool
    address: str
    durability: str
    cores: int
    seed: int | str
    sale: str
    scale: str
    rate_divisor: float
    seconds: float
    total_s: float
    cues: int
    viewers: int
    units: int
    lag_cap_ms: int
    window_ms: int
    cohorts: list[CohortResult]
    fair_rate: float
    parity: float | None
    parity_error: float
    parity_first: float | None
    parity_ok: bool
    parity_rule: str
    verified: int
    oversold: int
    lost: int
    conservation_ok: bool
    audit_ok: bool
    checked: int
    offered: int
    completed: int
    dropped: int
    outcomes: dict[str, dict[str, int]]
    errors: dict[str, int]
    schedule_lag_ms: Percentiles
    generator_cpu: float
    problem_count: int
    problems: list[str]
    void: list[str]
    passed: bool
    exit_code: int
    notes: list[str]

    def to_json(self) -> str:
        """One JSON object on one line."""
        return msgspec.json.encode(self).decode()


def build_room_report(
    *,
    room: LiveRoom,
    plan: RoomPlan,
    size: Size,
    sale: Sale,
    facts: Facts,
    settled: Settled,
    told: ServerSide,
    server: Server,
    durability: str,
    seed: int | str,
    total_s: float,
    schedule_lag: Percentiles | None = None,
) -> RoomReport:
    """Compare what viewers were told with records and books, and measure who won."""
    whole, answers = with_results(plan.plan, facts, settled.results)
    truth = judge(whole, sale, claims_of(whole, answers, sale.hold_ttl_ms), told)
    faults, verified, lost = check_records(plan, settled)
    units = [sku.stock for sku in sale.skus[::2]]
    rates, parity = _who_won(plan, room, units, facts, settled.results)
    lag = schedule_lag or percentiles(_lateness_ms(plan, facts))
    outcomes, errors = outcomes_of(plan.plan, facts, settled.results)
    problems = [*settled.failed, *faults, *truth.problems]
    reasons = void_reasons(plan.plan.offered, facts, lag, errors)
    if not parity.told:
        owed = f"a cohort is owed {parity.expected:.1f} wins, fewer than {EXPECTED_MIN:g}"
        reasons.append(f"{owed}: too few to judge parity")
    elif not parity.fair:
        shown = "no" if parity.ratio is None else f"{parity.ratio:.3f}"
        told_first = f"lag decides who wins: parity {shown}, standard error {parity.error:.3f}"
        problems.insert(0, told_first)
    failed = bool(problems) or not truth.ok or verified < len(settled.records)
    return RoomReport(
        **_setup(room, plan, size, sale, server),
        **rates,
        durability=durability,
        seed=seed,
        total_s=round(total_s, 2),
        verified=verified,
        oversold=truth.oversold,
        lost=truth.lost + lost,
        conservation_ok=truth.conservation_ok,
        audit_ok=told.audit.ok,
        checked=truth.checked,
        offered=plan.plan.offered,
        completed=sum(result is not None for result in facts.results),
        dropped=facts.dropped,
        outcomes=outcomes,
        errors=errors,
        schedule_lag_ms=lag,
        generator_cpu=round(facts.generator_cpu, 3),
        problem_count=len(problems) + truth.problem_count - len(truth.problems),
        problems=problems[:PROBLEMS_MAX],
        void=reasons,
        passed=not failed and not reasons,
        exit_code=FAILED if failed else VOID if reasons else PASSED,
        notes=[],
    )


def _setup(
    room: LiveRoom, plan: RoomPlan, size: Size, sale: Sale, server: Server
) -> dict[str, Any]:
    """What was decided before the run."""
    return {
        "scenario": room.name,
        "about": room.about,
        "server": f"{server.name} {server.version}",
        "embedded": server.embedded,
        "address": server.address,
        "cores": os.cpu_count() or 1,
        "sale": sale.id,
        "scale": f"rate 1/{size.rate_divisor:g}",
        "rate_divisor": size.rate_divisor,
        "seconds": size.seconds,
        "cues": len(plan.cues_at_s),
        "viewers": plan.viewers,
        "units": sale.skus[0].stock,
        "lag_cap_ms": room.lag_cap_ms,
        "window_ms": room.window_ms,
    }


def _who_won(
    plan: RoomPlan,
    room: LiveRoom,
    units: Sequence[int],
    facts: Facts,
    results: Mapping[int, Result],
) -> tuple[dict[str, Any], Parity]:
    """The win rates of both ways, and what they say."""
    entered, first, windows = _wins(plan, facts, results)
    parity = parity_of(_draws(plan, room, units, windows))
    rates = {
        "cohorts": _cohorts(plan, room, entered, first, windows),
        "fair_rate": min(1.0, units[0] / plan.viewers),
        "parity": parity.ratio,
        "parity_error": parity.error,
        "parity_first": parity_of(_draws(plan, room, units, first)).ratio,
        "parity_ok": parity.fair,
        "parity_rule": RULE,
    }
    return rates, parity


def _lateness_ms(plan: RoomPlan, facts: Facts) -> Iterator[float]:
    """From the intended time of every attempt to when the driver took it up."""
    for at, due in zip(facts.picked_s, plan.plan.at_s, strict=True):
        if at != NEVER:
            yield (at - due) * 1000


def _wins(
    plan: RoomPlan, facts: Facts, results: Mapping[int, Result]
) -> tuple[Counter[int], Counter[tuple[int, int]], Counter[tuple[int, int]]]:
    """Entrants per cohort, and wins per (cue, cohort): first come, first served; windows."""
    entered, firsts = set(), set()
    for order, result in zip(plan.plan.order, facts.results, strict=True):
        if isinstance(result, Answer):
            if result.outcome is Outcome.ENTERED:
                entered.add(order)
            elif result.outcome is Outcome.HELD:
                firsts.add(order)
    drawn = [
        order
        for order, result in results.items()
        if isinstance(result, Answer) and result.outcome is Outcome.HELD
    ]

    def counts(orders: Sequence[int]) -> Counter[tuple[int, int]]:
        return Counter((plan.cue_of(order), plan.cohort_of(order)) for order in orders)

    return Counter(map(plan.cohort_of, entered)), counts(list(firsts)), counts(drawn)


def _draws(
    plan: RoomPlan, room: LiveRoom, units: Sequence[int], wins: Mapping[tuple[int, int], int]
) -> list[Draw]:
    cohorts = range(len(room.cohorts))
    taps = [plan.cohort.count(which) for which in cohorts]
    return [
        Draw(places, taps, [wins.get((cue, which), 0) for which in cohorts])
        for cue, places in enumerate(units)
    ]


def _cohorts(
    plan: RoomPlan,
    room: LiveRoom,
    entered: Mapping[int, int],
    first: Mapping[tuple[int, int], int],
    windows: Mapping[tuple[int, int], int],
) -> list[CohortResult]:
    found = []
    for which, cohort in enumerate(room.cohorts):
        taps = plan.cohort.count(which) * len(plan.cues_at_s)

        def won(wins: Mapping[tuple[int, int], int], which: int = which, taps: int = taps) -> Won:
            count = sum(n for (_, other), n in wins.items() if other == which)
            return Won(count, count / taps if taps else 0.0)

        found.append(
            CohortResult(
                lag_s=cohort.lag_s,
                share=cohort.share,
                taps=taps,
                entrants=entered.get(which, 0),
                first=won(first),
                windows=won(windows),
            )
        )
    return found
