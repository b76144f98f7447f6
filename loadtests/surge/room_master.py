"""The master's part in a live room: opens the cues, settles them at the end, checks the records."""

from __future__ import annotations

import time
from typing import Any

from gevent.pool import Pool

from flashsale import Answer, CueHandle, FlashSaleError, Outcome, draw, window
from flashsale.rehearsal import LIVE_ROOM, LiveRoom, Size
from flashsale.rehearsal.aftermath import CHECK_TIMEOUT_MS, clear_away, quiet, read_server
from flashsale.rehearsal.facts import Facts, Result
from flashsale.rehearsal.room.judging import Settled
from flashsale.rehearsal.room.report import build_room_report
from flashsale.rehearsal.room.scenario import is_entry, position_ms
from loadtests.surge.master import Master
from loadtests.surge.verdict import RoomSurgeReport, add_to_room

ASKING = 64
"""Questions for a result at a time."""

LATE_S = 3.0
"""After the last close: for answers that are under way."""


class RoomMaster(Master):
    """One run of a live room. The pumps send taps; all that is about a cue as a whole is here."""

    lead_s = 1.0
    """The cues are opened, and read by the pumps, meanwhile."""

    def _scenario_of(self, name: str) -> LiveRoom:
        return LIVE_ROOM

    def _settle_s(self, size: Size) -> float:
        return 3 * LIVE_ROOM.count_s + LIVE_ROOM.closes_after_s() + LATE_S

    def _prepare(self, begin: float) -> None:
        """Open all cues; their times are the server's."""
        sale, room = self._shop.sale(self._sale.id), LIVE_ROOM
        before = time.monotonic()
        server_ms = sale.snapshot().at_ms
        begin_ms = server_ms + (begin - (before + time.monotonic()) / 2) * 1000
        self._cues: list[CueHandle] = [
            sale.cue(
                sku,
                at=position_ms(at_s),
                cue_time_ms=round(begin_ms + at_s * 1000),
                window_ms=room.window_ms,
                lag_cap_ms=room.lag_cap_ms,
                grace_ms=room.grace_ms,
                reserve_ms=0,  # as `flashsale.rehearsal.room` has it
            )
            for sku, at_s in zip(room.sku_ids, room.cues_at_s(self._order.size), strict=True)
        ]

    def _judge(self) -> RoomSurgeReport:
        order, sale = self._order, self._sale
        plan = order.room_plan()
        calls = self._script_calls()
        facts = self._desk.facts()
        settled = self._settle(facts)
        snapshot = self._shop.perform(quiet(sale.id, wait_s=0), CHECK_TIMEOUT_MS)
        timed = self._desk.timed()
        report = build_room_report(
            room=LIVE_ROOM,
            plan=plan,
            size=order.size,
            sale=sale,
            facts=facts,
            settled=settled,
            told=self._shop.perform(read_server(sale.id, snapshot), CHECK_TIMEOUT_MS),
            server=self._where(),
            durability=order.durability,
            seed=order.seed,
            total_s=time.perf_counter() - self._started,
            schedule_lag=timed.schedule_lag,
        )
        if not self._options.own_server:
            report.notes.append(self._clear_away(facts, settled, keep=report.exit_code == 1))
        return add_to_room(
            report,
            self._generator(),
            latency=timed.latency,
            batch_mean=self._batch_mean(calls, facts),
            objective_p99_ms=self._options.objective_p99_ms,
        )

    def _settle(self, facts: Facts) -> Settled:
        """Settle every cue, and ask for the result of everybody who may have entered."""
        settled = Settled([None] * len(self._cues), {}, {}, [])
        room = self._order.room_plan()
        entered: dict[int, list[int]] = {}
        for order, result in zip(self._plan.order, facts.results, strict=True):
            counts = isinstance(result, Answer) and result.outcome is Outcome.ENTERED
            if is_entry(order) and counts and order not in settled.receipts:
                settled.receipts[order] = self._receipt(order, room.cue_of(order))
                entered.setdefault(room.cue_of(order), []).append(order)
        pool = Pool(ASKING)
        for number, cue in enumerate(self._cues):
            try:
                told = cue.settle()
                if told.outcome is not Outcome.SETTLED:
                    settled.failed.append(f"cue {cue.id!r} was not settled: {told.outcome.value}")
                    continue
                orders = entered.get(number, [])
                asked: Any = pool.map(lambda order, cue=cue: self._result(cue, order), orders)
                settled.results.update(zip(orders, asked, strict=True))
                settled.records[number] = cue.record()
            except FlashSaleError as error:
                text = f"cue {cue.id!r} was not settled: {type(error).__name__}: {error}"
                settled.failed.append(text)
        return settled

    def _receipt(self, order: int, number: int) -> str:
        """What a buyer was told. Whoever may read the cue's salt can tell it: pumps report none."""
        cue = self._cues[number]
        salt = self._shop.perform(window.know(cue.sale, cue.id)).salt
        return draw.opening_of(salt, cue.sale, cue.id, self._plan.requests[order].buyer).hex()

    def _result(self, cue: CueHandle, order: int) -> Result:
        try:
            return cue.result(self._plan.requests[order].buyer, wait_ms=0)
        except FlashSaleError as error:
            return error

    def _clear_away(self, facts: Facts, settled: Settled, *, keep: bool) -> str:
        if not keep:
            told = (*facts.results, *settled.results.values())
            held = [r for r in told if isinstance(r, Answer) and r.outcome is Outcome.HELD]
            self._shop.sale(self._sale.id).release_many(held)
        return self._shop.perform(clear_away(self._sale.id, keep=keep))
