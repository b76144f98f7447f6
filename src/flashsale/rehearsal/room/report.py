"""What a live room's rehearsal found: judged, as one value, and ready for JSON."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from flashsale.models import Answer, Outcome, Sale
from flashsale.rehearsal.claims import claims_of
from flashsale.rehearsal.crowd import Plan
from flashsale.rehearsal.facts import NEVER, Facts, Result
from flashsale.rehearsal.measures import Percentiles, counted, percentiles
from flashsale.rehearsal.report import CPU_MAX, FAILED, PASSED, UNANSWERED_MAX, VOID, Server
from flashsale.rehearsal.room.parity import EXPECTED_MIN, RULE, Draw, parity_of
from flashsale.rehearsal.room.scenario import LiveRoom, RoomPlan, is_entry
from flashsale.rehearsal.scenarios import Size
from flashsale.rehearsal.truth import PROBLEMS_MAX, ServerSide, judge
from flashsale.verify import verify

LAG_P99_MAX_MS = 100.0
"""How late the generator may be: a tenth of the grace that is granted for sending. Nothing here
measures latency, and what decides, positions and seconds of lag, is fixed beforehand."""


class Settled(Struct):
    """What came after the close.

    records: one per cue, in order, None if it could not be had. results: per entry's order what
    its viewer was answered. receipts: per entry's order the entrant's name that the viewer was
    given. failed: what went wrong in settling, a sentence each.
    """

    records: list[dict[str, Any] | None]
    results: dict[int, Result]
    receipts: dict[int, str]
    failed: list[str]


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
    void: Sequence[str] = (),
) -> RoomReport:
    """Compare what viewers were told with records and books, and measure who won."""
    whole, answers = with_results(plan.plan, facts, settled.results)
    truth = judge(whole, sale, claims_of(whole, answers, sale.hold_ttl_ms), told)
    faults, verified, lost = check_records(plan, facts, settled)
    entered, first, windows = _wins(plan, facts, settled.results)
    units = [sku.stock for sku in sale.skus[::2]]
    parity = parity_of(_draws(plan, room, units, windows))
    lag = schedule_lag or percentiles(
        (at - due) * 1000
        for at, due in zip(facts.picked_s, plan.plan.at_s, strict=True)
        if at != NEVER
    )
    outcomes, errors = _outcomes(plan.plan, facts, settled.results)
    completed = sum(result is not None for result in facts.results)
    problems = [*settled.failed, *faults, *truth.problems]
    if parity.told and not parity.fair:
        shown = "no" if parity.ratio is None else f"{parity.ratio:.3f}"
        lags = f"lag decides who wins: parity {shown}, standard error {parity.error:.3f}"
        problems.insert(0, lags)
    reasons = [*void, *void_reasons(plan.plan.offered, facts, lag, errors)]
    if not parity.told:
        reasons.append(
            f"a cohort is owed {parity.expected:.1f} wins, fewer than {EXPECTED_MIN:g}: too few to "
            "judge parity"
        )
    failed = bool(problems) or not truth.ok or verified < len(settled.records)
    return RoomReport(
        scenario=room.name,
        about=room.about,
        server=f"{server.name} {server.version}",
        embedded=server.embedded,
        address=server.address,
        durability=durability,
        cores=os.cpu_count() or 1,
        seed=seed,
        sale=sale.id,
        scale=f"rate 1/{size.rate_divisor:g}",
        rate_divisor=size.rate_divisor,
        seconds=size.seconds,
        total_s=round(total_s, 2),
        cues=len(plan.cues_at_s),
        viewers=plan.viewers,
        units=units[0],
        lag_cap_ms=room.lag_cap_ms,
        window_ms=room.window_ms,
        cohorts=_cohorts(plan, room, entered, first, windows),
        fair_rate=min(1.0, units[0] / plan.viewers),
        parity=parity.ratio,
        parity_error=parity.error,
        parity_first=parity_of(_draws(plan, room, units, first)).ratio,
        parity_ok=parity.fair,
        parity_rule=RULE,
        verified=verified,
        oversold=truth.oversold,
        lost=truth.lost + lost,
        conservation_ok=truth.conservation_ok,
        audit_ok=told.audit.ok,
        checked=truth.checked,
        offered=plan.plan.offered,
        completed=completed,
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


def with_results(plan: Plan, facts: Facts, results: Mapping[int, Result]) -> tuple[Plan, Facts]:
    """The run with the questions for the result as further attempts, so that wins count as holds.

    An entry that was answered ENTERED and whose result is an error may have won: nobody is
    accused of what was not heard.
    """
    orders = list(results)
    whole = msgspec.structs.replace(plan, order=plan.order[:] + type(plan.order)("l", orders))
    answers = Facts.of(plan)
    answers.results = [*facts.results, *(results[order] for order in orders)]
    return whole, answers


def check_records(plan: RoomPlan, facts: Facts, settled: Settled) -> tuple[list[str], int, int]:
    """What is wrong with the records; how many verify; entries and wins that were lost.

    Every viewer who was told ENTERED is in the record under the receipt they were given, and who
    has a result has the record's.
    """
    problems: list[str] = []
    verified = lost = 0
    by_cue: dict[int, list[int]] = {}
    for order in settled.receipts:
        by_cue.setdefault(plan.cue_of(order), []).append(order)
    for cue, record in enumerate(settled.records):
        if record is None:
            problems.append(f"cue {cue + 1} has no record")
            continue
        published = json.loads(json.dumps(record))
        found = verify(published)
        if found.ok:
            verified += 1
        problems += [
            f"the record of cue {cue + 1} does not verify: {check.name}: {check.message}"
            for check in found.checks
            if not check.ok
        ]
        if not found.ok:
            continue
        entrants = {who for group in published["entrants"] for who in group["who"]}
        winners = {who for who, outcome, _ in published["awarded"] if outcome == "held"}
        for order in by_cue.get(cue, ()):
            told = _record_against(order, entrants, winners, settled)
            if told:
                lost += 1
                problems.append(f"cue {cue + 1}, {plan.plan.requests[order].buyer}: {told}")
    return problems, verified, lost


def _record_against(order: int, entrants: set[str], winners: set[str], settled: Settled) -> str:
    who, result = settled.receipts[order], settled.results.get(order)
    if who not in entrants:
        return "was told that the entry counts, but is not in the record"
    if isinstance(result, Answer) and (result.outcome is Outcome.HELD) != (who in winners):
        return f"was answered {result.outcome.value}, which is not what the record says"
    return ""


def void_reasons(
    offered: int, facts: Facts, lag: Percentiles, errors: Mapping[str, int]
) -> list[str]:
    """Why the load was not what was planned."""
    reasons = []
    if lag.p99 > LAG_P99_MAX_MS:
        reasons.append(
            f"the generator was late: schedule lag p99 {lag.p99:.0f} ms is above "
            f"{LAG_P99_MAX_MS:g} ms"
        )
    if facts.dropped:
        reasons.append(f"{facts.dropped:,} taps were dropped, too many were unanswered")
    if facts.generator_cpu > CPU_MAX:
        reasons.append(
            f"the generator used {facts.generator_cpu:.0%} of its core, above {CPU_MAX:.0%}"
        )
    if sum(errors.values()) > UNANSWERED_MAX * offered:
        reasons.append(f"{sum(errors.values()):,} calls got no answer, more than 1 %")
    return reasons


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


def _outcomes(
    plan: Plan, facts: Facts, results: Mapping[int, Result]
) -> tuple[dict[str, dict[str, int]], dict[str, int]]:
    """Outcomes by verb, and errors of all of them."""
    entries: list[Result | None] = []
    holds: list[Result | None] = []
    for order, result in zip(plan.order, facts.results, strict=True):
        (entries if is_entry(order) else holds).append(result)
    errors: Counter[str] = Counter()
    told = {}
    for verb, answers in (("enter", entries), ("result", list(results.values())), ("hold", holds)):
        outcomes, failed = counted(answers)
        told[verb] = dict(outcomes.most_common())
        errors.update(failed)
    return told, dict(errors.most_common())
