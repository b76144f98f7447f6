"""What the processes of a run tell each other: the order to a worker, and its reports.

Values and their bytes, no I/O. A report carries every answer since the one before it, so that
what a worker was told survives the worker.
"""

from __future__ import annotations

import zlib
from array import array
from enum import Enum

import msgspec
from msgspec import Struct

from flashsale import errors
from flashsale.errors import FlashSaleError, ProtocolError
from flashsale.models import OUTCOME_BY_CODE, Answer
from flashsale.rehearsal import LIVE_ROOM, WAITING_ROOM, Plan, Size, scenario_named
from flashsale.rehearsal.facts import Result
from flashsale.rehearsal.queue import QueuePlan
from flashsale.rehearsal.room import RoomPlan

PEAK_PER_S = 2_000
"""Attempts a second at the peak unless a scale is given: what two cores keep up with, shared by
the server, two workers and Locust's master, when every attempt is a call of its own."""

ROOM_PEAK_PER_S = 6_000
"""The same for a live room, whose cohorts do not come all at once: 60 % of it, at the peak."""

QUEUE_PEAK_PER_S = 1_300
"""Positions a second of a waiting room, if all of its people waited at once."""

_ERRORS = {
    kind.__name__: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, FlashSaleError)
}
_TEXT_MAX = 200


def peak_per_s(scenario: str) -> int:
    """The bound of a scenario."""
    own = {LIVE_ROOM.name: ROOM_PEAK_PER_S, WAITING_ROOM.name: QUEUE_PEAK_PER_S}
    return own.get(scenario, PEAK_PER_S)


class Order(Struct, frozen=True, kw_only=True):
    """What a worker is to do: its share (`index` of `workers`) of a run that the rest names.

    in_flight: most attempts that one worker may have unanswered.
    """

    scenario: str
    size: Size
    seed: int
    sale: str
    url: str
    durability: str
    index: int
    workers: int
    in_flight: int
    settle_s: float

    def plan(self) -> Plan:
        """The whole run: every process lays the same one out."""
        if self.scenario == LIVE_ROOM.name:
            return self.room_plan().plan
        return scenario_named(self.scenario).plan(self.size, seed=self.seed)

    def room_plan(self) -> RoomPlan:
        """The whole run of a live room."""
        return LIVE_ROOM.plan(self.size, seed=self.seed)

    def queue_plan(self) -> QueuePlan:
        """The whole run of a waiting room."""
        return WAITING_ROOM.plan(self.size, seed=self.seed)


class Told(Struct, array_like=True, gc=False):
    """An answer, its outcome by its letter, or the error instead of it (no letter)."""

    code: str
    error: str
    deadline_ms: int
    at_ms: int
    replayed: bool

    @classmethod
    def of(cls, result: Result) -> Told:
        """What is kept of a result."""
        if isinstance(result, Answer):
            deadline_ms = result.deadline_ms or 0
            return cls(result.outcome.code, "", deadline_ms, result.at_ms, result.replayed)
        return cls("", f"{type(result).__name__}: {result}"[:_TEXT_MAX], 0, 0, False)

    def result(self, sale: str, buyer: str, hold_id: str) -> Result:
        """The answer again, or an error of the same kind."""
        if self.code:
            return Answer(
                OUTCOME_BY_CODE[self.code],
                sale,
                buyer,
                hold_id,
                deadline_ms=self.deadline_ms or None,
                at_ms=self.at_ms,
                replayed=self.replayed,
            )
        name, _, text = self.error.partition(": ")
        kind = _ERRORS.get(name, ProtocolError)
        try:
            return kind(text)
        except TypeError:  # one that is made of other things than a text
            return ProtocolError(self.error)


class ToldAttempt(Struct, array_like=True, gc=False):
    """An attempt's answer and when it came, in seconds of the run."""

    attempt: int
    answered_s: float
    told: Told


class ToldStep(Struct, array_like=True, gc=False):
    """A later step's answer."""

    verb: str
    order: int
    due_s: float
    answered_s: float
    told: Told


class Standing(Enum):
    """How far a worker is."""

    SURGE = "surge"
    SETTLE = "settle"
    DONE = "done"


class Tally(Struct, kw_only=True):
    """One report of a worker. `serial` counts them from 0.

    attempts, steps: what was answered since the report before. Everything else is for the run
    so far: the histograms (encoded HdrHistograms of microseconds from the intended time), what
    was taken up, dropped, held and paid, calls to sweep, steps not taken, and the CPU time of
    the process as a share of one core while buyers arrived.
    """

    worker: int
    serial: int
    standing: Standing
    attempts: list[ToldAttempt]
    steps: list[ToldStep]
    latency: bytes
    later_latency: bytes
    schedule_lag: bytes
    offered: int
    dropped: int
    held: int
    confirmed: int
    sweeps: int
    left_over: int
    cpu: float


def pack(value: Order | Tally) -> bytes:
    """The bytes of a message."""
    return msgspec.msgpack.encode(value)


def read_order(data: bytes) -> Order:
    """An order from its bytes."""
    return msgspec.msgpack.decode(data, type=Order)


def read_tally(data: bytes) -> Tally:
    """A report from its bytes."""
    return msgspec.msgpack.decode(data, type=Tally)


def share_of(plan: Plan, index: int, workers: int) -> array[int]:
    """The attempts of one worker, in order of time.

    A buyer's attempts are all in one share. Buyers are spread by a hash of their id, so a
    share of a Poisson process is one again.
    """
    worker_of = [zlib.crc32(request.buyer.encode()) % workers for request in plan.requests]
    return array("l", [n for n, order in enumerate(plan.order) if worker_of[order] == index])
