"""What a run saw: every answer and when it came. Filled by the driver, judged afterwards."""

from __future__ import annotations

from array import array
from enum import Enum

from msgspec import Struct

from flashsale.errors import FlashSaleError
from flashsale.models import Answer
from flashsale.rehearsal.crowd import Plan

Result = Answer | FlashSaleError

NEVER = -1.0
"""The time of what did not happen."""


class Verb(Enum):
    """What a buyer does with a hold."""

    CONFIRM = "confirm"
    RELEASE = "release"
    EXTEND = "extend"


class FollowUp(Struct, gc=False):
    """One later step of an order. Times are seconds of the run."""

    verb: Verb
    order: int
    due_s: float
    result: Result
    answered_s: float


class Facts(Struct, kw_only=True):
    """The record of a run. Times are seconds since the start of the surge.

    results, picked_s, answered_s: per attempt its answer or error (None: dropped), when the
        driver took it up, when the answer was there (`NEVER`: not).
    batches: attempts per call to the engine.
    dropped: attempts not sent because too many were unanswered.
    left_over: later steps that were not taken within the time for settling.
    generator_cpu: CPU time of this process as a share of one core, while buyers arrived.
    ended_s: when the last answer was there.
    """

    results: list[Result | None]
    picked_s: array[float]
    answered_s: array[float]
    follow_ups: list[FollowUp]
    batches: array[int]
    dropped: int = 0
    left_over: int = 0
    generator_cpu: float = 0.0
    ended_s: float = 0.0

    @classmethod
    def of(cls, plan: Plan) -> Facts:
        """An empty record for a plan."""
        return cls(
            results=[None] * plan.offered,
            picked_s=array("d", [NEVER]) * plan.offered,
            answered_s=array("d", [NEVER]) * plan.offered,
            follow_ups=[],
            batches=array("l"),
        )
