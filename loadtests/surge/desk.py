"""The desk: puts the workers' reports together. Pure: Locust only carries the bytes."""

from __future__ import annotations

import math
from typing import Any

from flashsale.errors import OutcomeUnknown
from flashsale.models import Answer, Outcome
from flashsale.rehearsal import Plan, Progress
from flashsale.rehearsal.facts import Facts, FollowUp, Verb
from flashsale.rehearsal.measures import new_histogram, percentiles_of
from flashsale.rehearsal.report import Timed
from loadtests.surge.telling import Order, Standing, Tally, read_tally, share_of


class Desk:
    """Every worker's reports of one run.

    A report that never came leaves its attempts undecided: the verdict must not accuse the
    engine of what a dead generator knew.
    """

    def __init__(self, order: Order, plan: Plan) -> None:
        self._order = order
        self._plan = plan
        self._facts = Facts.of(plan)
        self._last: dict[int, Tally] = {}
        self._broken: set[int] = set()
        self._completed = 0

    def take(self, data: bytes) -> None:
        """One report."""
        tally = read_tally(data)
        before = self._last.get(tally.worker)
        if tally.serial != (0 if before is None else before.serial + 1):
            self._broken.add(tally.worker)
        self._last[tally.worker] = tally
        plan, facts, sale = self._plan, self._facts, self._order.sale
        for row in tally.attempts:
            request = plan.requests[plan.order[row.attempt]]
            facts.results[row.attempt] = row.told.result(sale, request.buyer, request.hold_id)
            facts.answered_s[row.attempt] = row.answered_s
        for step in tally.steps:
            request = plan.requests[step.order]
            result = step.told.result(sale, request.buyer, request.hold_id)
            verb = Verb(step.verb)
            facts.follow_ups.append(FollowUp(verb, step.order, step.due_s, result, step.answered_s))
            facts.ended_s = max(facts.ended_s, step.answered_s)
        self._completed += len(tally.attempts)

    @property
    def done(self) -> set[int]:
        """The workers that have reported to the end."""
        return {n for n, tally in self._last.items() if tally.standing is Standing.DONE}

    @property
    def lost(self) -> list[int]:
        """The workers of which some report is missing."""
        return sorted(set(range(self._order.workers)) - self.done | self._broken)

    def progress(self, elapsed_s: float) -> Progress:
        """This moment of the run."""
        tallies = self._last.values()
        surging = any(tally.standing is Standing.SURGE for tally in tallies)
        return Progress(
            phase="surge" if surging else "settle",
            elapsed_s=elapsed_s,
            seconds=self._order.size.seconds,
            offered=sum(tally.offered for tally in tallies),
            total=self._plan.offered,
            completed=self._completed,
            dropped=sum(tally.dropped for tally in tallies),
            held=sum(tally.held for tally in tallies),
            confirmed=sum(tally.confirmed for tally in tallies),
        )

    def facts(self) -> Facts:
        """Everything that the workers were told, as the record of one run."""
        facts, tallies = self._facts, self._last.values()
        facts.dropped = sum(tally.dropped for tally in tallies)
        facts.left_over = sum(tally.left_over for tally in tallies)
        facts.generator_cpu = max((tally.cpu for tally in tallies), default=0.0)
        facts.ended_s = max([facts.ended_s, *facts.answered_s])
        for worker in self.lost:
            self._leave_open(worker)
        return facts

    def _leave_open(self, worker: int) -> None:
        """Whatever a lost worker did not report may have been asked and may have been done."""
        facts, unknown = self._facts, OutcomeUnknown("the worker that knew is gone")
        for attempt in share_of(self._plan, worker, self._order.workers):
            result = facts.results[attempt]
            if result is None:
                facts.results[attempt] = unknown
            elif isinstance(result, Answer) and result.outcome is Outcome.HELD:
                order = self._plan.order[attempt]
                facts.follow_ups.append(FollowUp(Verb.CONFIRM, order, 0.0, unknown, math.inf))

    @property
    def cpus(self) -> list[float]:
        """Each worker's CPU time as a share of one core, while buyers arrived."""
        return [round(self._last[n].cpu, 3) for n in sorted(self._last)]

    @property
    def sweeps(self) -> int:
        """Calls that only swept."""
        return sum(tally.sweeps for tally in self._last.values())

    def timed(self) -> Timed:
        """The workers' histograms, merged."""
        return Timed(
            latency=percentiles_of(self._merged("latency")),
            later_latency=percentiles_of(self._merged("later_latency")),
            schedule_lag=percentiles_of(self._merged("schedule_lag")),
        )

    def _merged(self, name: str) -> Any:
        merged = new_histogram()
        for tally in self._last.values():
            merged.decode_and_add(getattr(tally, name))
        return merged
