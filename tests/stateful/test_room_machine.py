"""The waiting room's specification at work: random calls to a real server beside the oracle.

As in `test_sale_machine`: every answer is held against the oracle's for the same moment. After
every step the room as it is stored must be the oracle's too, with every turn, and all figures,
holds and the ledger of the sale. Time is held; calls at the same time are among the rules.
"""

from __future__ import annotations

import pytest
from hypothesis import settings

from flashsale import waiting_room
from stateful.room_rules import RoomMachine
from stateful.running import SHORT, Runs

FEWER = settings(SHORT, max_examples=25)


class SyncRoom(RoomMachine):
    pass


class AsyncRoom(RoomMachine):
    pass


@pytest.fixture(autouse=True)
def _views_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine says when a client's view is too old, not the clock."""
    monkeypatch.setattr(waiting_room, "VIEW_MS", 86_400_000)


@pytest.mark.timeout(3_600)
class TestTheRoomThroughTheSyncShell(Runs, SyncRoom.TestCase):
    machine, shell, short = SyncRoom, "sync", FEWER


@pytest.mark.timeout(3_600)
class TestTheRoomThroughTheAsyncShell(Runs, AsyncRoom.TestCase):
    machine, shell, short = AsyncRoom, "async", FEWER
