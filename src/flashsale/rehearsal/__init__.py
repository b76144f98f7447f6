"""Rehearse a sale: a surge of open arrivals, a crowd with habits, and a check of the books.

::

    from flashsale.rehearsal import run, show

    report = run("double11", seconds=10)
    show(report)
    raise SystemExit(report.exit_code)

The answers that buyers got are kept and compared with the server afterwards, so the engine
is not judged by its own counters. Load that could not be sent as planned makes a run void.
Needs the extra: ``pip install 'flashsale[cli]'``.
"""

from flashsale.rehearsal.crowd import Crowd, Plan
from flashsale.rehearsal.curves import Curve, RushCurve, SurgeCurve, TableCurve
from flashsale.rehearsal.driver import Driver, OnProgress, Progress
from flashsale.rehearsal.files import read_curve, read_sale
from flashsale.rehearsal.published import DOUBLE11_CURVE
from flashsale.rehearsal.queue import (
    WAITING_ROOM,
    QueueReport,
    QueueScenario,
    render_queue,
    run_queue,
)
from flashsale.rehearsal.render import live_progress, render, show
from flashsale.rehearsal.report import FAILED, PASSED, VOID, Report
from flashsale.rehearsal.room import LIVE_ROOM, LiveRoom, RoomReport, render_room, run_room
from flashsale.rehearsal.runner import rehearse, run
from flashsale.rehearsal.scenarios import (
    DOUBLE11,
    HOT_SKU,
    SCENARIOS,
    Scenario,
    Size,
    parse_scale,
    scenario_named,
)

__all__ = [
    "DOUBLE11",
    "DOUBLE11_CURVE",
    "FAILED",
    "HOT_SKU",
    "LIVE_ROOM",
    "PASSED",
    "SCENARIOS",
    "VOID",
    "WAITING_ROOM",
    "Crowd",
    "Curve",
    "Driver",
    "LiveRoom",
    "OnProgress",
    "Plan",
    "Progress",
    "QueueReport",
    "QueueScenario",
    "Report",
    "RoomReport",
    "RushCurve",
    "Scenario",
    "Size",
    "SurgeCurve",
    "TableCurve",
    "live_progress",
    "parse_scale",
    "read_curve",
    "read_sale",
    "rehearse",
    "render",
    "render_queue",
    "render_room",
    "run",
    "run_queue",
    "run_room",
    "scenario_named",
    "show",
]
