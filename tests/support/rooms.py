"""A live room that is over in four seconds, and everything its report is made of."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from flashsale.rehearsal import LIVE_ROOM, RoomReport, run_room
from flashsale.rehearsal.room import Cohort, runner
from flashsale.rehearsal.room.report import build_room_report

SHORT = msgspec.structs.replace(
    LIVE_ROOM,
    about="a short room",
    cohorts=(Cohort(0.05, 0.1, 0.5), Cohort(1.1, 0.1, 0.5)),
    skus=6,
    viewers=8_000,
    units=2_400,
    seconds=0.3,
    count_s=0.05,
    eager=0.2,
    tail_s=0.1,
    window_ms=2_000,
    lag_cap_ms=1_200,
    grace_ms=300,
)
"""Lags are shorter than in LIVE_ROOM, and so is the cap; nothing else about it is different."""

SCALE = 100.0


class Ran:
    """A real run: its report, and copies of what it was made of, to be falsified."""

    def __init__(self, **options: Any) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runner, "build_room_report", self._build)
            self.report = run_room(SHORT, scale=SCALE, seed=4, **options)

    def _build(self, **parts: Any) -> RoomReport:
        self._parts = parts
        return build_room_report(**parts)

    def parts(self) -> dict[str, Any]:
        """What the report was made of."""
        settled = self._parts["settled"]
        facts = self._parts["facts"]
        copied = msgspec.structs.replace(
            settled,
            records=list(settled.records),
            results=dict(settled.results),
            receipts=dict(settled.receipts),
            failed=list(settled.failed),
        )
        return self._parts | {
            "settled": copied,
            "facts": msgspec.structs.replace(facts, results=list(facts.results)),
        }
