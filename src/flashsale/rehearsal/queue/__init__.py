"""Rehearse a waiting room: a crowd in front of few units, and whether it was told the truth.

::

    from flashsale.rehearsal.queue import run_queue

    report = run_queue()
    print(report.in_vain_share, report.calibration, report.said_after_ms)
"""

from flashsale.rehearsal.queue.crowd import Habits, QueuePlan
from flashsale.rehearsal.queue.render import render_queue
from flashsale.rehearsal.queue.report import QueueReport
from flashsale.rehearsal.queue.runner import rehearse_queue, run_queue
from flashsale.rehearsal.queue.scenario import WAITING_ROOM, QueueScenario

__all__ = [
    "WAITING_ROOM",
    "Habits",
    "QueuePlan",
    "QueueReport",
    "QueueScenario",
    "rehearse_queue",
    "render_queue",
    "run_queue",
]
