"""Rehearse a live room: fairness windows beside first come, first served, on the same taps.

::

    from flashsale.rehearsal.room import run_room

    report = run_room(seconds=6)
    print(report.parity, report.parity_first, report.verified)
"""

from flashsale.rehearsal.room.parity import Parity, parity_of
from flashsale.rehearsal.room.render import render_room
from flashsale.rehearsal.room.report import RoomReport
from flashsale.rehearsal.room.runner import rehearse_room, run_room
from flashsale.rehearsal.room.scenario import LIVE_ROOM, Cohort, LiveRoom, RoomPlan

__all__ = [
    "LIVE_ROOM",
    "Cohort",
    "LiveRoom",
    "Parity",
    "RoomPlan",
    "RoomReport",
    "parity_of",
    "rehearse_room",
    "render_room",
    "run_room",
]
