"""Runs of a rehearsal written by hand: what buyers were answered, and what the server says."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Any

from flashsale import (
    Answer,
    AuditReport,
    FlashSaleError,
    Hold,
    HoldRequest,
    HoldState,
    Outcome,
    Sale,
    SaleState,
    Sku,
    SkuView,
    Snapshot,
)
from flashsale.rehearsal.claims import Claims, claims_of
from flashsale.rehearsal.crowd import Plan
from flashsale.rehearsal.facts import Facts, FollowUp, Verb
from flashsale.rehearsal.truth import ServerSide, Truth, judge

TTL_MS = 1_000
STARTED_MS = 1_763_900_000_000


class HandMade:
    """A run of single attempts, and the server's side of it, which a test then falsifies.

    Times are milliseconds since the start. `hold` and the steps note what was answered and do
    to the server's books what the engine would do.
    """

    def __init__(self, stock: Mapping[str, int], *, late: Any = "refuse", **rules: Any) -> None:
        limits = rules.pop("limits", {})
        skus = [Sku(sku, units, limits.get(sku)) for sku, units in stock.items()]
        self.sale = Sale("s", skus, hold_ttl_ms=TTL_MS, **rules)
        self.late = late
        self.requests: list[HoldRequest] = []
        self.attempts: list[tuple[int, Answer | FlashSaleError | None]] = []
        self.steps: list[FollowUp] = []
        self.records: dict[str, list[Hold]] = {}
        self.audit_problems: tuple[str, ...] = ()
        self.counters: dict[str, dict[str, int]] = {}
        self.now_ms = 500
        self.read_after_ms = 0

    def hold(
        self, buyer: str, at_ms: int = 0, *, hold_id: str = "o", server: bool = True, **lines: int
    ) -> int:
        """An order whose hold was acknowledged; returns its number."""
        order = self.order(buyer, hold_id, lines or {"red": 1})
        self.answer(order, self.held(order, at_ms))
        if server:
            self.keep(order, HoldState.HELD, at_ms + TTL_MS)
        return order

    def order(self, buyer: str, hold_id: str, lines: Mapping[str, int]) -> int:
        self.requests.append(HoldRequest(buyer, dict(lines), hold_id))
        return len(self.requests) - 1

    def answer(self, order: int, result: Answer | FlashSaleError | None) -> None:
        """One more attempt at an order and what came of it."""
        self.attempts.append((order, result))

    def held(self, order: int, at_ms: int, *, replayed: bool = False) -> Answer:
        deadline = STARTED_MS + at_ms + TTL_MS
        return self.told(
            order,
            Outcome.HELD,
            at_ms,
            deadline_ms=deadline,
            replayed=replayed,
            state=HoldState.HELD,
        )

    def told(self, order: int, outcome: Outcome, at_ms: int, **more: Any) -> Answer:
        request = self.requests[order]
        return Answer(
            outcome, "s", request.buyer, request.hold_id, at_ms=STARTED_MS + at_ms, **more
        )

    def step(
        self, order: int, verb: Verb, result: Outcome | FlashSaleError, at_ms: int, **more: Any
    ) -> None:
        """A later step; the server's record is left as it is."""
        answer = self.told(order, result, at_ms, **more) if isinstance(result, Outcome) else result
        self.steps.append(FollowUp(verb, order, at_ms / 1000, answer, at_ms / 1000))

    def keep(self, order: int, state: HoldState, deadline_ms: int, **changes: Any) -> None:
        """Let the server know an order in that state."""
        request = self.requests[order]
        lines = dict(request.basket)  # type: ignore[arg-type]
        hold = Hold(
            sale="s",
            buyer=request.buyer,
            hold_id=request.hold_id,
            state=state,
            lines=changes.get("lines", lines),
            sold=changes.get("sold", lines if state is HoldState.CONFIRMED else {}),
            deadline_ms=STARTED_MS + deadline_ms,
            original_deadline_ms=STARTED_MS + deadline_ms,
            refunds={},
        )
        others = self.records.get(request.buyer, [])
        self.records[request.buyer] = [
            *(one for one in others if one.hold_id != request.hold_id),
            hold,
        ]

    def pay(self, order: int, at_ms: int = 100) -> None:
        self.step(order, Verb.CONFIRM, Outcome.CONFIRMED, at_ms)
        self.keep(order, HoldState.CONFIRMED, TTL_MS)

    def give_up(self, order: int, at_ms: int = 100) -> None:
        self.step(order, Verb.RELEASE, Outcome.RELEASED, at_ms)
        self.keep(order, HoldState.RELEASED, TTL_MS)

    @property
    def plan(self) -> Plan:
        return Plan(
            requests=self.requests,
            fates=bytes(len(self.requests)),
            think_s=array("d", [0.0]) * len(self.requests),
            at_s=array("d", [n / 1000 for n in range(len(self.attempts))]),
            order=array("l", [order for order, _ in self.attempts]),
            deaf=bytes(len(self.attempts)),
            late=self.late,
        )

    @property
    def facts(self) -> Facts:
        facts = Facts.of(self.plan)
        facts.results = [result for _, result in self.attempts]
        for attempt, (_, result) in enumerate(self.attempts):
            if result is None:
                facts.dropped += 1
            else:
                facts.picked_s[attempt] = attempt / 1000 + 0.001
                facts.answered_s[attempt] = attempt / 1000 + 0.003
                facts.batches.append(1)
        facts.follow_ups = self.steps
        return facts

    @property
    def server(self) -> ServerSide:
        views = {}
        for sku in self.sale.skus:
            units = {"allotment": sku.stock, "set_aside": 0, "held": 0, "sold": 0}
            for hold in (hold for holds in self.records.values() for hold in holds):
                units["sold"] += hold.sold.get(sku.id, 0)
                if hold.state is HoldState.HELD:
                    units["held"] += hold.lines.get(sku.id, 0)
            units["available"] = sku.stock - units["held"] - units["sold"]
            views[sku.id] = SkuView(sku.id, **units | self.counters.get(sku.id, {}))
        now = STARTED_MS + self.now_ms
        snapshot = Snapshot(
            sale=self.sale,
            state=SaleState.RUNNING,
            at_ms=now,
            epoch=1,
            sequence=1,
            buyers=len(self.records),
            due_at_ms=None,
            skus=views,
        )
        audit = AuditReport("s", 1, 1, 0, 1, 1, 1, 1, self.audit_problems)
        return ServerSide(
            snapshot=snapshot,
            records=self.records,
            read_by_ms=now + self.read_after_ms,
            audit=audit,
        )

    def claims(self) -> Claims:
        return claims_of(self.plan, self.facts, TTL_MS)

    def truth(self) -> Truth:
        return judge(self.plan, self.sale, self.claims(), self.server)
