"""The books of a run: what was held and paid, as the buyers were told, against the server's."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import accumulate

from flashsale.models import HoldRequest, HoldState, Outcome, Sale
from flashsale.rehearsal.claims import FOREVER, Claims, claims_of
from flashsale.rehearsal.crowd import Fate, Plan
from flashsale.rehearsal.facts import Facts, FollowUp, Verb
from flashsale.rehearsal.queue.crowd import buyer_of
from flashsale.rehearsal.queue.driver import HOLD_ID
from flashsale.rehearsal.queue.record import Act, Deed, Record
from flashsale.rehearsal.queue.scenario import SKU

_HOLDS = (Act.HOLD, Act.GRAB)
_STEPS = {Act.PAY: Verb.CONFIRM, Act.CANCEL: Verb.RELEASE}


def claims_from(record: Record, sale: Sale) -> tuple[Plan, Claims]:
    """Every acknowledged hold, as in any other rehearsal."""
    holds = [deed for deed in record.deeds if deed.act in _HOLDS]
    people = sorted({deed.person for deed in holds})
    orders = {person: order for order, person in enumerate(people)}
    plan = _plan(people, orders, holds)
    facts = Facts.of(plan)
    facts.results = [deed.result(sale.id, buyer_of(deed.person), HOLD_ID) for deed in holds]
    facts.follow_ups = [
        FollowUp(
            _STEPS[deed.act],
            orders[deed.person],
            deed.due_s,
            deed.result(sale.id, buyer_of(deed.person), HOLD_ID),
            deed.answered_s,
        )
        for deed in record.deeds
        if deed.act in _STEPS
    ]
    return plan, claims_of(plan, facts, sale.hold_ttl_ms)


def _plan(people: Iterable[int], orders: dict[int, int], holds: list[Deed]) -> Plan:
    requests = [HoldRequest(buyer_of(person), {SKU: 1}, HOLD_ID) for person in people]
    return Plan(
        requests=requests,
        fates=bytes([Fate.ABANDON]) * len(requests),
        think_s=array("d", [0.0]) * len(requests),
        at_s=array("d", [deed.due_s for deed in holds]),
        order=array("l", [orders[deed.person] for deed in holds]),
        deaf=bytes(len(holds)),
    )


class Stock:
    """How many units were available when, by the answers that buyers got."""

    def __init__(self, claims: Claims, units: int) -> None:
        moves: dict[int, int] = {}
        for claim in claims.held.values():
            qty = sum(claim.lines.values())
            for begin, end in claim.out:
                moves[begin] = moves.get(begin, 0) - qty
                moves[end] = moves.get(end, 0) + qty
        moves.pop(FOREVER, None)
        self._times = sorted(moves)
        self._levels = [units, *(units + n for n in accumulate(moves[t] for t in self._times))]

    def available(self, at_ms: int) -> int:
        """Units available at the end of that millisecond."""
        return self._levels[bisect_right(self._times, at_ms)]

    def most(self, begin_ms: int, end_ms: int) -> int:
        """The most units that were available at a moment from one time to another."""
        first = bisect_left(self._times, begin_ms)
        last = bisect_right(self._times, end_ms)
        return max(self._levels[first : last + 1])


def gone_ms(record: Record, claims: Claims, units: int) -> tuple[int, int] | None:
    """When the last unit was paid and nothing could come back any more: not before, not after.

    None while anything is left. A payment that was only acknowledged when it was repeated may have
    been made at any time before that.
    """
    paid = [claim for claim in claims.held.values() if claim.state is HoldState.CONFIRMED]
    if sum(sum(claim.lines.values()) for claim in paid) < units:
        return None
    buyers = {claim.buyer for claim in paid}
    letter = Outcome.CONFIRMED.code
    sure, latest = [], []
    for deed in record.deeds:
        if deed.act is Act.PAY and deed.code == letter and buyer_of(deed.person) in buyers:
            latest.append(deed.at_ms)
            if not deed.replayed:
                sure.append(deed.at_ms)
    return max(sure, default=0), max(latest, default=0)
