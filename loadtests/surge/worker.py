"""A worker's part: takes an order, lays out its share, pumps, and reports through Locust."""

from __future__ import annotations

import gc
import os
from typing import Any, cast

import gevent
from gevent.event import AsyncResult, Event
from locust.env import Environment

from flashsale import FlashSale
from flashsale.rehearsal import LIVE_ROOM, WAITING_ROOM
from flashsale.rehearsal.facts import Result
from flashsale.rehearsal.queue.runner import key_of
from loadtests.surge.pump import Pump
from loadtests.surge.queue_pump import QueuePump
from loadtests.surge.room_pump import RoomPump
from loadtests.surge.telling import read_order


class Worker:
    """One worker process. Locust may start several users in it; only the first one pumps."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._runner = cast("Any", environment.runner)
        self._order: AsyncResult[bytes] = AsyncResult()
        self._begin: AsyncResult[float] = AsyncResult()
        self._taken = False
        self._pump: Pump | QueuePump | None = None
        self._runner.register_message("order", lambda msg, **_: self._order.set(msg.data))
        self._runner.register_message("begin", lambda msg, **_: self._begin.set(msg.data))
        environment.events.report_to_master.add_listener(self._report)

    def run(self) -> None:
        """Pump, then wait to be stopped; a failure is told to the master, which ends the run."""
        if not self._taken:
            self._taken = True
            try:
                self._work()
            except Exception as error:
                self._runner.send_message("failed", f"{type(error).__name__}: {error}")
        Event().wait()

    def _work(self) -> None:
        self._runner.send_message("pump", {"pid": os.getpid()})
        order = read_order(self._order.get())
        # In a thread of the system: Locust's heartbeat goes on meanwhile.
        ways: dict[str, Any] = {
            LIVE_ROOM.name: (order.room_plan, RoomPump),
            WAITING_ROOM.name: (order.queue_plan, QueuePump),
        }
        lay_out, pump_of = ways.get(order.scenario, (order.plan, Pump))
        plan: Any = gevent.get_hub().threadpool.apply(lay_out)
        level, keys = cast("Any", order.durability), [key_of(order.seed)]
        with FlashSale.from_url(order.url, durability=level, keys=keys) as shop:
            shop.sale(order.sale).snapshot()
            pump: Pump | QueuePump = pump_of(shop, order, plan, self._on_answer)
            self._pump = pump
            # As in a rehearsal: with a run's answers in memory a collection takes 50 ms and more.
            gc.collect()
            gc.disable()
            self._runner.send_message("ready", None)
            pump.run(self._begin.get())

    def _on_answer(self, verb: str, result: Result, milliseconds: float) -> None:
        """One of Locust's request events each: 4 µs, so none need be left out."""
        error = result if isinstance(result, Exception) else None
        name = type(result).__name__ if isinstance(result, Exception) else result.outcome.value
        self._environment.events.request.fire(
            request_type=verb,
            name=name,
            response_time=milliseconds,
            response_length=0,
            exception=error,
            context={},
        )

    def _report(self, client_id: str, data: dict[str, Any]) -> None:
        if self._pump is not None:
            data["tally"] = self._pump.tally()
