"""The master's part in a waiting room: opens it, watches it as an operator does, judges the run."""

from __future__ import annotations

import time
from typing import Any

import gevent
import msgspec
import redis

from flashsale import FlashSaleError, Key
from flashsale.errors import StoreUnavailable
from flashsale.rehearsal import Size
from flashsale.rehearsal.aftermath import CHECK_TIMEOUT_MS, clear_away, quiet, read_server
from flashsale.rehearsal.queue import WAITING_ROOM, QueuePlan, QueueScenario
from flashsale.rehearsal.queue.building import Ran, build_queue_report
from flashsale.rehearsal.queue.runner import key_of
from flashsale.rehearsal.queue.watch import SAMPLE_EVERY_S, Sample, sample_of
from flashsale.rooms import RoomView
from loadtests.surge.master import Master
from loadtests.surge.queue_telling import QueueDesk
from loadtests.surge.verdict import QueueSurgeReport, add_to_queue

HOW = (
    "Locust pumps; one heap of what is due, not a timer a person; every act is a call of its own, "
    "in a greenlet"
)


class QueueMaster(Master):
    """One run of a waiting room. The pumps are the people; all that is of the room is here."""

    lead_s = 1.0
    """The room is opened meanwhile."""

    _desk: QueueDesk
    _plan: QueuePlan

    def _scenario_of(self, name: str) -> QueueScenario:
        return WAITING_ROOM

    def _key_of(self, seed: int) -> Key:
        return key_of(seed)

    def _lay_out(self) -> QueuePlan:
        return self._order.queue_plan()

    def _new_desk(self) -> QueueDesk:
        return QueueDesk(self._order, self._plan)

    def _settle_s(self, size: Size) -> float:
        return WAITING_ROOM.at_most_s(size) - size.seconds

    def _prepare(self, begin: float) -> None:
        """Open the room, the opening of which is by the server's clock, and begin to watch it."""
        self._samples: list[Sample] = []
        self._view: RoomView | None = None
        self._grown: int | None = None
        sale = self._shop.sale(self._sale.id)
        before = time.monotonic()
        server_ms = sale.snapshot().at_ms
        begin_ms = server_ms + (begin - (before + time.monotonic()) / 2) * 1000
        opens_ms = round(begin_ms + 1000 * self._plan.opens_s)
        sale.queue.open(WAITING_ROOM.room_for(self._order.size, opens_at_ms=opens_ms))
        self._runner.greenlet.spawn(self._watch_memory, begin + self._plan.opens_s)
        self._watching = self._runner.greenlet.spawn(self._watch, begin)

    def _watch(self, begin: float) -> None:
        while True:
            self._look(begin)
            gevent.sleep(SAMPLE_EVERY_S)

    def _look(self, begin: float) -> None:
        before = time.monotonic()
        try:
            view = self._shop.sale(self._sale.id).queue.view()
        except FlashSaleError:
            return
        self._samples.append(sample_of(view, (before + time.monotonic()) / 2 - begin))
        self._view = view

    def _watch_memory(self, opens: float) -> None:
        try:
            empty: Any = self._info.info("memory")
            gevent.sleep(max(0.0, opens - time.monotonic()))
            joined: Any = self._info.info("memory")
            self._grown = joined["used_memory"] - empty["used_memory"]
        except (redis.RedisError, KeyError):
            return  # not told: the report says None

    def _judge(self) -> QueueSurgeReport:
        order, sale, calls = self._order, self._sale, self._script_calls()
        self._watching.kill()
        self._look(self._begin or 0.0)
        if self._view is None:
            raise StoreUnavailable("the room could not be seen during the run")
        record = self._desk.record()
        snapshot = self._shop.perform(
            quiet(sale.id, wait_s=WAITING_ROOM.hold_ttl_ms / 1000), CHECK_TIMEOUT_MS
        )
        ran = Ran(
            scenario=WAITING_ROOM,
            size=order.size,
            sale=sale,
            seed=order.seed,
            durability=order.durability,
            server=self._where(),
            bots=self._plan.bots,
            people=self._plan.people,
            record=record,
            samples=self._samples,
            room=self._view,
            told=self._shop.perform(read_server(sale.id, snapshot), CHECK_TIMEOUT_MS),
            latency_ms=self._desk.latency_ms(),
            schedule_lag_ms=self._desk.schedule_lag(),
            memory_bytes=self._memory(),
            how=HOW,
            total_s=time.perf_counter() - self._started,
        )
        report = build_queue_report(ran)
        if not self._options.own_server:
            keep = report.exit_code == 1
            note = self._shop.perform(clear_away(sale.id, keep=keep))
            report = msgspec.structs.replace(report, notes=[*report.notes, note])
        asked = record.completed - sum(record.outcomes.get("ask", {}).values())
        calls -= self._calls + len(self._samples)
        return add_to_queue(
            report,
            self._generator(),
            batch_mean=round(asked / calls, 2) if calls > 0 else None,
            objective_p99_ms=self._options.objective_p99_ms,
        )

    def _memory(self) -> float | None:
        present = self._view.present if self._view else None
        return round(self._grown / present, 1) if self._grown is not None and present else None
