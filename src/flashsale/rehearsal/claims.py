"""What the run's own answers say: every order's life, from the answers alone.

Nothing here asks the server or uses its counters, so that the server can be judged by it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from flashsale.models import Answer, HoldState, Outcome, Sale
from flashsale.rehearsal.crowd import Plan
from flashsale.rehearsal.facts import Facts, FollowUp, Result, Verb

FOREVER = 1 << 62

_BACK, _OUT = 0, 1

_FITTING = {
    Verb.CONFIRM: {
        Outcome.CONFIRMED,
        Outcome.EXPIRED,
        Outcome.SOLD_OUT,
        Outcome.LIMIT_REACHED,
        Outcome.TRY_AGAIN,
    },
    Verb.RELEASE: {Outcome.RELEASED, Outcome.EXPIRED},
    Verb.EXTEND: {Outcome.EXTENDED, Outcome.EXPIRED, Outcome.DEADLINE_TOO_FAR},
}
"""What the engine may answer about a hold that it has acknowledged and that is not over."""


class Claim(Struct, gc=False):
    """One order whose hold was acknowledged, as its answers tell it.

    out: when its units were out of stock, as [from, to) in the server's milliseconds, with
        `FOREVER` for sold or still held.
    state: what it is now; deadline_ms: when it falls due if it is held.
    unsure: an answer was lost, so the server may know of one step more.
    """

    order: int
    buyer: str
    hold_id: str
    lines: Mapping[str, int]
    state: HoldState
    deadline_ms: int
    out: list[tuple[int, int]]
    unsure: bool = False

    @property
    def name(self) -> str:
        """For people."""
        return f"hold {self.hold_id!r} of buyer {self.buyer!r}"


class Claims(Struct):
    """Every acknowledged hold; the orders that may exist unacknowledged; contradictions.

    replayed: answers that came back as replays. resent: those that had to.
    """

    held: dict[int, Claim]
    maybe: set[int]
    problems: list[str]
    replayed: int = 0
    resent: int = 0


def claims_of(plan: Plan, facts: Facts, ttl_ms: int) -> Claims:
    """Read the answers of a run."""
    claims = Claims({}, set(), [])
    answers: dict[int, list[Result | None]] = defaultdict(list)
    for attempt, order in enumerate(plan.order):
        answers[order].append(facts.results[attempt])
    for order, results in answers.items():
        _read_holds(claims, plan, order, results, ttl_ms)
    for step in facts.follow_ups:
        _read_step(claims, plan, step)
    return claims


def _read_holds(
    claims: Claims, plan: Plan, order: int, results: Sequence[Result | None], ttl_ms: int
) -> None:
    """Several answers to one id: one hold, one deadline, and at most one is not a replay."""
    told = [result for result in results if type(result) is Answer]
    unsure = any(isinstance(result, Exception) for result in results)
    held = [answer for answer in told if answer.outcome is Outcome.HELD]
    if not held:
        if unsure:
            claims.maybe.add(order)
        return
    request = plan.requests[order]
    name = f"hold {request.hold_id!r} of buyer {request.buyer!r}"
    deadline = held[0].deadline_ms or 0
    fresh = sum(not answer.replayed for answer in held)
    claims.replayed += len(held) - fresh
    claims.resent += len(held) - 1
    if fresh > 1:
        claims.problems.append(f"{name} was taken {fresh} times")
    if any(answer.deadline_ms != deadline for answer in held):
        claims.problems.append(f"{name} was answered with two deadlines")
    for answer in told:
        if answer.outcome is not Outcome.HELD and answer.at_ms > deadline - ttl_ms:
            text = f"{name} was answered {answer.outcome.value} after it was held"
            claims.problems.append(text)
    claims.held[order] = Claim(
        order=order,
        buyer=request.buyer,
        hold_id=request.hold_id,
        lines=plan.lines(order),
        state=HoldState.HELD,
        deadline_ms=deadline,
        out=[(deadline - ttl_ms, FOREVER)],
    )


def _read_step(claims: Claims, plan: Plan, step: FollowUp) -> None:
    claim, answer = claims.held.get(step.order), step.result
    if claim is None:
        request = plan.requests[step.order]
        claims.problems.append(f"{step.verb.value} of an order never held: {request.buyer!r}")
        return
    if isinstance(answer, Exception):
        claim.unsure = True
        return
    outcome = answer.outcome
    if outcome not in _FITTING[step.verb]:
        text = f"{claim.name}: {step.verb.value} was answered {outcome.value}"
        claims.problems.append(text)
    elif outcome is Outcome.EXTENDED:
        claim.deadline_ms = answer.deadline_ms or 0
    elif outcome is Outcome.CONFIRMED:
        _read_confirmed(claims, plan, claim, answer)
    elif outcome is Outcome.RELEASED:
        # A replayed release happened earlier, nobody knows when: the units count as back.
        claim.state = HoldState.RELEASED
        claim.out[-1] = (claim.out[-1][0], claim.out[-1][0] if answer.replayed else answer.at_ms)
    elif outcome is Outcome.EXPIRED or step.verb is Verb.CONFIRM:
        if answer.at_ms < claim.deadline_ms and not claim.unsure:
            claims.problems.append(f"{claim.name} was called expired before its deadline")
        claim.state = HoldState.EXPIRED
        claim.out[-1] = (claim.out[-1][0], claim.deadline_ms)


def _read_confirmed(claims: Claims, plan: Plan, claim: Claim, answer: Answer) -> None:
    claim.state = HoldState.CONFIRMED
    if answer.at_ms < claim.deadline_ms or answer.replayed:
        return
    if plan.late == "refuse":
        claims.problems.append(f"{claim.name} was confirmed after its deadline")
    claim.out[-1] = (claim.out[-1][0], claim.deadline_ms)
    claim.out.append((answer.at_ms, FOREVER))


def settle(claims: Claims, now_ms: int) -> None:
    """Let what is still held and past its deadline be expired, as it is on the server."""
    for claim in claims.held.values():
        if claim.state is HoldState.HELD and claim.deadline_ms <= now_ms:
            claim.state = HoldState.EXPIRED
            claim.out[-1] = (claim.out[-1][0], claim.deadline_ms)


def oversold(claims: Iterable[Claim], sale: Sale) -> dict[str, int]:
    """Per sku, the most units ever acknowledged beyond the allotment at one moment.

    A unit is out from its hold to its release or deadline, or for ever. Within a millisecond
    units are taken to come back before others go out, and what went out and came back within
    one does not count, so this never accuses wrongly.
    """
    moves: dict[str, Counter[tuple[int, int]]] = defaultdict(Counter)
    for claim in claims:
        for begin, end in claim.out:
            for sku, qty in claim.lines.items() if begin < end else ():
                moves[sku][begin, _OUT] += qty
                moves[sku][end, _BACK] += qty
    beyond: dict[str, int] = {}
    for thing in sale.skus:
        out = most = 0
        for (_, kind), qty in sorted(moves[thing.id].items()):
            out += qty if kind == _OUT else -qty
            most = max(most, out)
        if most > thing.stock:
            beyond[thing.id] = most - thing.stock
    return beyond


def over_limit(claims: Iterable[Claim], sale: Sale) -> list[str]:
    """Buyers whose acknowledged units, held or sold now, exceed a limit."""
    used: dict[str, Counter[str]] = defaultdict(Counter)
    for claim in claims:
        if claim.state in (HoldState.HELD, HoldState.CONFIRMED):
            used[claim.buyer].update(claim.lines)
    limits = {sku.id: sku.limit for sku in sale.skus if sku.limit is not None}
    found = []
    for buyer, units in used.items():
        for sku, qty in units.items():
            if qty > limits.get(sku, qty):
                found.append(f"buyer {buyer!r} has {qty} of {sku!r}, the limit is {limits[sku]}")
        if sale.limit is not None and units.total() > sale.limit:
            found.append(f"buyer {buyer!r} has {units.total()} units, the limit is {sale.limit}")
    return found
