"""What the pumps of a waiting room tell the master, and how it puts that together."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
from msgspec import Struct

from flashsale.errors import OutcomeUnknown
from flashsale.rehearsal import Progress
from flashsale.rehearsal.measures import Percentiles, new_histogram, percentiles_of
from flashsale.rehearsal.queue import QueuePlan
from flashsale.rehearsal.queue.record import Act, Deed, Record, Visit
from loadtests.surge.telling import Order, Standing


class QueueTally(Struct, kw_only=True):
    """One report of a worker; `serial` counts them from 0.

    visits: those that changed since the report before, whole; deeds: those since then. Everything
    else is for the run so far, as in `Record` and `Meters`.
    """

    worker: int
    serial: int
    standing: Standing
    visits: list[Visit]
    deeds: list[Deed]
    outcomes: dict[str, dict[str, int]]
    errors: dict[str, int]
    longest_poll_ms: int
    offered: int
    completed: int
    dropped: int
    unserved: int
    latency: dict[str, bytes]
    schedule_lag: bytes
    held: int
    paid: int
    cpu: float


class QueueDesk:
    """Every worker's reports of one run. Pure: Locust only carries the bytes."""

    sweeps = 0

    def __init__(self, order: Order, plan: QueuePlan) -> None:
        self._order = order
        self._plan = plan
        self._last: dict[int, QueueTally] = {}
        self._broken: set[int] = set()
        self._record = Record()

    def take(self, data: bytes) -> None:
        """One report."""
        tally = msgspec.msgpack.decode(data, type=QueueTally)
        before = self._last.get(tally.worker)
        if tally.serial != (0 if before is None else before.serial + 1):
            self._broken.add(tally.worker)
        self._last[tally.worker] = tally
        self._record.visits.update((visit.person, visit) for visit in tally.visits)
        self._record.deeds += tally.deeds
        tally.visits, tally.deeds = [], []

    @property
    def done(self) -> set[int]:
        """The workers that have reported to the end."""
        return {n for n, tally in self._last.items() if tally.standing is Standing.DONE}

    @property
    def lost(self) -> list[int]:
        """The workers of which some report is missing."""
        return sorted(set(range(self._order.workers)) - self.done | self._broken)

    @property
    def cpus(self) -> list[float]:
        """Each worker's CPU time as a share of one core, while people came."""
        return [round(self._last[n].cpu, 3) for n in sorted(self._last)]

    def progress(self, elapsed_s: float) -> Progress:
        """This moment of the run."""
        tallies = self._last.values()
        return Progress(
            phase="surge" if elapsed_s < self._order.size.seconds else "settle",
            elapsed_s=elapsed_s,
            seconds=self._order.size.seconds,
            offered=self._sum("offered"),
            total=max(self._plan.people, self._sum("offered")),
            completed=self._sum("completed"),
            dropped=self._sum("dropped"),
            held=sum(tally.held for tally in tallies),
            confirmed=sum(tally.paid for tally in tallies),
        )

    def record(self) -> Record:
        """Everything that the workers were told, as the record of one run."""
        record, tallies = self._record, self._last.values()
        for name in ("offered", "completed", "dropped", "unserved"):
            setattr(record, name, self._sum(name))
        for tally in tallies:
            record.errors.update(tally.errors)
            for act, told in tally.outcomes.items():
                record.outcomes.setdefault(act, Counter()).update(told)
        record.longest_poll_ms = max((tally.longest_poll_ms for tally in tallies), default=0)
        record.generator_cpu = max((tally.cpu for tally in tallies), default=0.0)
        for worker in self.lost:
            self._leave_open(worker)
        return record

    def _leave_open(self, worker: int) -> None:
        """Whatever a lost worker did not report may have been asked and may have been done."""
        error = OutcomeUnknown.__name__
        for person in range(worker, self._plan.people, self._order.workers):
            visit = self._record.visits.get(person)
            if visit is None or visit.end is None or visit.held_ms:
                acts = (Act.HOLD, Act.PAY) if visit is not None and visit.held_ms else (Act.HOLD,)
                self._record.deeds += [Deed(act, person, 0.0, 0.0, "", error) for act in acts]
                self._record.deeds.append(Deed(Act.COME, person, 0.0, 0.0, "", error))
                self._record.errors[error] += 1

    def latency_ms(self) -> dict[str, Percentiles]:
        """The workers' histograms, merged, by verb."""
        return {
            verb: self._merged([tally.latency[verb] for tally in self._last.values()])
            for verb in ("join", "position", "admit", "hold")
        }

    def schedule_lag(self) -> Percentiles:
        """How late the workers were."""
        return self._merged([tally.schedule_lag for tally in self._last.values()])

    def _merged(self, encoded: list[bytes]) -> Percentiles:
        merged: Any = new_histogram()
        for one in encoded:
            merged.decode_and_add(one)
        return percentiles_of(merged)

    def _sum(self, name: str) -> int:
        return sum(getattr(tally, name) for tally in self._last.values())
