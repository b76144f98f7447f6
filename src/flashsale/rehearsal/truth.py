"""The claims of a run against what the server says at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from msgspec import Struct

from flashsale.models import AuditReport, Hold, HoldState, Sale, SkuView, Snapshot
from flashsale.rehearsal.claims import Claim, Claims, over_limit, oversold, settle
from flashsale.rehearsal.crowd import Plan

PROBLEMS_MAX = 20
"""Problems that are listed; how many there are is counted."""

_LIVE = (HoldState.HELD, HoldState.CONFIRMED)


class ServerSide(Struct, frozen=True, kw_only=True):
    """What the server says after a run.

    snapshot: its counters, at a moment when no hold was due and unswept. records: every
    buyer's holds, read after that and by `read_by_ms`. audit: its ledger against its state.
    """

    snapshot: Snapshot
    records: Mapping[str, list[Hold]]
    read_by_ms: int
    audit: AuditReport


class Truth(Struct, frozen=True, kw_only=True):
    """The verdict on the books.

    oversold: units acknowledged beyond the allotment at some moment, over all skus.
    lost: acknowledged holds and payments that the server does not have.
    conservation_ok: per sku allotment = available + set aside + held + sold, the allotment
        is what was opened, the server's audit (ledger against state) finds nothing, and its
        sums of held and sold units are those of the acknowledged holds.
    checked: acknowledged holds compared, all of them, each with the buyer's record.
    problems: a sentence each, at most `PROBLEMS_MAX`; `problem_count` counts them all.
    """

    oversold: int
    lost: int
    conservation_ok: bool
    checked: int
    replayed: int
    resent: int
    problem_count: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """True if nothing is wrong."""
        return not (self.oversold or self.lost or self.problem_count) and self.conservation_ok


def judge(plan: Plan, sale: Sale, claims: Claims, server: ServerSide) -> Truth:
    """Compare; the engine's own counters decide nothing alone."""
    settle(claims, server.snapshot.at_ms)
    held = claims.held.values()
    beyond = oversold(held, sale)
    problems = [f"sku {sku!r}: {units} units oversold" for sku, units in beyond.items()]
    lost: list[str] = []
    for claim in held:
        found, is_lost = _compare(claim, server)
        if found:
            (lost if is_lost else problems).append(found)
    problems += claims.problems
    problems += over_limit(held, sale)
    problems += _unclaimed(plan, claims, server.records)
    broken = _conservation(sale, server.snapshot)
    broken += _sums(plan, claims, server.snapshot)
    broken += [f"audit: {problem}" for problem in server.audit.problems]
    everything = lost + broken + problems
    return Truth(
        oversold=sum(beyond.values()),
        lost=len(lost),
        conservation_ok=not broken,
        checked=len(claims.held),
        replayed=claims.replayed,
        resent=claims.resent,
        problem_count=len(everything),
        problems=tuple(everything[:PROBLEMS_MAX]),
    )


def _compare(claim: Claim, server: ServerSide) -> tuple[str, bool]:
    """What is wrong with one acknowledged hold, and whether it counts as lost."""
    hold = next(
        (h for h in server.records.get(claim.buyer, ()) if h.hold_id == claim.hold_id), None
    )
    if hold is None:
        return f"{claim.name} is lost: the server does not know it", True
    fitting = {claim.state}
    if claim.unsure:
        fitting = set(HoldState)
    elif claim.state is HoldState.HELD and claim.deadline_ms <= server.read_by_ms:
        fitting.add(HoldState.EXPIRED)  # it fell due after the snapshot
    if hold.state not in fitting:
        text = f"{claim.name} is {hold.state.value} on the server, acknowledged {claim.state.value}"
        return text, claim.state in _LIVE
    if hold.lines != claim.lines:
        return f"{claim.name} has other lines on the server than were acknowledged", False
    if claim.state is HoldState.CONFIRMED and hold.sold != claim.lines:
        return f"{claim.name} was sold with other lines than were acknowledged", True
    return "", False


def _unclaimed(plan: Plan, claims: Claims, records: Mapping[str, list[Hold]]) -> list[str]:
    """Holds on the server that nobody was told of, though every answer came."""
    known = {(claim.buyer, claim.hold_id) for claim in claims.held.values()}
    for order in claims.maybe:
        known.add((plan.requests[order].buyer, plan.requests[order].hold_id))
    return [
        f"hold {hold.hold_id!r} of buyer {buyer!r} is {hold.state.value} on the server and was "
        "never acknowledged"
        for buyer, holds in records.items()
        for hold in holds
        if (buyer, hold.hold_id) not in known
    ]


def _conservation(sale: Sale, snapshot: Snapshot) -> list[str]:
    broken = []
    for sku in sale.skus:
        view = snapshot.skus.get(sku.id)
        if view is None:
            broken.append(f"sku {sku.id!r} is not in the snapshot")
        elif not _adds_up(view) or view.allotment != sku.stock:
            broken.append(
                f"sku {sku.id!r}: allotment {view.allotment} (opened with {sku.stock}) is not "
                f"available {view.available} + set aside {view.set_aside} + held {view.held} + "
                f"sold {view.sold}"
            )
    return broken


def _adds_up(view: SkuView) -> bool:
    parts = (view.available, view.set_aside, view.held, view.sold)
    return min(parts) >= 0 and sum(parts) == view.allotment


def _sums(plan: Plan, claims: Claims, snapshot: Snapshot) -> list[str]:
    """The server's units held and sold against the sums of the claims.

    They are equal, except for orders whose answers were lost: those may add to the server's.
    """
    held, sold, free = Counter[str](), Counter[str](), Counter[str]()
    for claim in claims.held.values():
        if claim.unsure:
            free.update(claim.lines)
        elif claim.state is HoldState.HELD:
            held.update(claim.lines)
        elif claim.state is HoldState.CONFIRMED:
            sold.update(claim.lines)
    for order in claims.maybe:
        free.update(plan.lines(order))
    return [
        f"sku {sku!r}: {units} units {word} on the server, {told[sku]} by the acknowledged holds"
        for sku, view in snapshot.skus.items()
        for word, units, told in (("held", view.held, held), ("sold", view.sold, sold))
        if not told[sku] <= units <= told[sku] + free[sku]
    ]
