"""A live room's answers against its draws' records, and whether the load was what was planned."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from flashsale.models import Answer, Outcome
from flashsale.rehearsal.crowd import Plan
from flashsale.rehearsal.facts import Facts, Result
from flashsale.rehearsal.measures import Percentiles, counted
from flashsale.rehearsal.report import CPU_MAX, UNANSWERED_MAX
from flashsale.rehearsal.room.scenario import RoomPlan, is_entry
from flashsale.verify import entrant_of, verify

LAG_P99_MAX_MS = 250.0
"""How late the generator may be: a quarter of the grace that is granted for sending. Nothing here
measures latency, and what decides, positions and seconds of lag, is fixed beforehand."""


class Settled(Struct):
    """What came after the close.

    records: one per cue, in order, None if it could not be had. results: per entry's order what
    its viewer was answered. receipts: per entry's order the receipt that the viewer was
    given. failed: what went wrong in settling, a sentence each.
    """

    records: list[dict[str, Any] | None]
    results: dict[int, Result]
    receipts: dict[int, str]
    failed: list[str]


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


def check_records(plan: RoomPlan, settled: Settled) -> tuple[list[str], int, int]:
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
        ids = published["cue"]["sale"], published["cue"]["id"]
        entrants = {who for group in published["entrants"] for who in group["who"]}
        winners = {who for who, outcome, _ in published["awarded"] if outcome == "held"}
        for order in by_cue.get(cue, ()):
            buyer, opening = plan.plan.requests[order].buyer, settled.receipts[order]
            who = entrant_of(bytes.fromhex(opening), *ids, buyer).hex()
            told = _record_against(who, entrants, winners, settled.results.get(order))
            if told:
                lost += 1
                problems.append(f"cue {cue + 1}, {buyer}: {told}")
    return problems, verified, lost


def _record_against(who: str, entrants: set[str], winners: set[str], result: object) -> str:
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


def outcomes_of(
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
