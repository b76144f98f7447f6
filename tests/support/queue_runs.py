"""A waiting room that is over in ten seconds, and everything its report is made of."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from flashsale.rehearsal import WAITING_ROOM, QueueReport, run_queue
from flashsale.rehearsal.queue import Habits, runner
from flashsale.rehearsal.queue.building import Ran, build_queue_report

QUICK = Habits(
    no_show=0.1,
    look=0.1,
    cancel=0.1,
    abandon=0.1,
    react_s=0.15,
    choose_s=0.05,
    pay_s=0.2,
    realists=0.1,
    bots=0.05,
    shared=0.1,
    two_tabs=0.2,
    tab_gap_s=0.3,
)

SHORT = msgspec.structs.replace(
    WAITING_ROOM,
    about="a short queue",
    habits=QUICK,
    people=600,
    units=12,
    seconds=2.0,
    rate_per_unit_s=1.0,
    turn_ttl_ms=3_000,
    poll_max_ms=1_000,
    hold_ttl_ms=1_000,
)
"""Turns and holds are shorter than in WAITING_ROOM, people faster, and fewer want a unit."""


def run_short(*, turns_max: int = 10, **options: Any) -> tuple[QueueReport, Ran]:
    """A real run: its report, and what it was made of."""
    kept: list[Ran] = []

    def build(ran: Ran) -> QueueReport:
        kept.append(ran)
        return build_queue_report(ran)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "build_queue_report", build)
        scenario = msgspec.structs.replace(SHORT, turns_max=turns_max)
        report = run_queue(scenario, scale=1, seed=4, **options)
    return report, kept[0]
