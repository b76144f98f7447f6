"""What may be foreseen for somebody who waits: when, whether there will be stock, when to ask.

Pure functions of a `RoomView`, so that a process reads the room once a second and tells everybody
from that.

*When.* The admission rate is measured: places called in each slot of time whose turns have not
ended, but for those passed over. Of the places ahead the share counts whose buyers have not left.
The uncertainty of the rate is two standard errors of the mean over those slots, and at least that
of a Poisson process, because calls come in steps. Until a whole slot was seen the room's own rate
is all there is. It is the rate that is foreseen, not the stock: beyond the turns that the stock is
for nobody is told a latest time, and is called later than told, if at all.

*Whether.* `likely` if what is available now exceeds what those ahead are expected to take: turns
outstanding and places before this one, but for the share of those who left, times the conversion.
What unpaid holds may give back is not counted, so `likely` errs on the safe side. Before the
opening a place is not known: then it is the chance of a place that stock is expected to reach,
against one half. How often either came true is to be measured (`flashsale rehearse waiting_room`
prints it), not promised.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from msgspec.structs import replace

from flashsale.limits import BURST_S, TIME_MAX_MS
from flashsale.models import Outcome
from flashsale.rooms import POLL_MIN_MS, Eta, Outlook, RoomState, RoomView, Turns

CROWD_POLLS_PER_S = 20_000
"""How many of those who wait for the opening ask again in a second, once it is over."""


class Rate(NamedTuple):
    """Places called a second, as measured, and two standard errors of that."""

    mean: float
    error: float


def with_rate(view: RoomView) -> RoomView:
    """A view with the rate that was measured: worked out once, for all who are told of it."""
    rate = admission_rate(view)
    if rate is None:
        return view
    return replace(view, measured_per_s=rate.mean, measured_error_per_s=rate.error)


def admission_rate(view: RoomView) -> Rate | None:
    """The measured rate; None before a whole slot of it was seen, or if that is too long ago.

    The slot in which the first of them were called is left out: when in it that began, and whether
    anybody would have been called before, is not known.
    """
    if not view.turns:
        return None
    slot_ms, last = view.room.slot_ms, view.at_ms // view.room.slot_ms
    since, before = view.turns[0].slot + 1, view.turns[0].serving
    slots = (view.at_ms + 1 - since * slot_ms) / slot_ms
    if slots < 1:
        return None
    counts = [0] * (last - since + 1)
    for turns in view.turns[1:]:
        counts[turns.slot - since] = turns.serving - before - turns.passed
        before = turns.serving
    mean = sum(counts) / slots
    spread = sum((count - mean) ** 2 for count in counts) / max(1.0, slots - 1)
    error = 2 * math.sqrt(max(spread, mean) / slots)
    return Rate(mean * (1000 / slot_ms), error * (1000 / slot_ms))


def eta_of(view: RoomView, ahead: int, at_ms: int = 0) -> Eta | None:
    """When a place with so many ahead of it is called; None if nothing is being called.

    at_ms: from when on, if that is later than the view: who asks may be told of an older one.
    How far the next call has come is not known: it may follow at once, or take its full time.
    Without a latest time if the rate may be less than a tenth of what was measured, or if the stock
    may decide and not the rate: it is not for so many turns as are outstanding and still to begin
    up to this place.
    """
    if view.state is RoomState.PAUSED or view.closed not in (None, Outcome.NOT_OPEN):
        return None
    age = max(0, at_ms - view.at_ms)
    opening = max(0, view.starts_at_ms - view.at_ms)

    def after(people: float, per_s: float) -> int:
        told = max(0, opening + round(people * 1000 / per_s) - age)
        return min(TIME_MAX_MS, told)  # programs that read JSON count to 2^53

    rate, error = view.measured_per_s, view.measured_error_per_s
    before = ahead * _staying(view)
    if rate is None:
        if view.serving and not view.turns:
            return None  # whatever it was that called places is long over
        own = view.rate_per_s
        return Eta(
            after(before + 1, own), after(max(0.0, before - max(1, BURST_S * own)), own), None
        )
    if rate <= 0:
        return None
    unsure = rate - error < rate / 10 or view.outstanding + before + 1 > view.bound
    latest = None if unsure else after(ahead + 1, rate - error)  # who left may come back
    return Eta(after(before + 1, rate), after(before, rate + error), latest)


def outlook_of(view: RoomView, ahead: int | None) -> Outlook:
    """What somebody with so many ahead of them (None: a place not drawn yet) may expect."""
    if view.gone:
        return Outlook.HOPELESS
    before = view.joined / 2 if ahead is None else ahead
    taken = (view.outstanding + before * _staying(view)) * view.conversion
    return Outlook.LIKELY if view.available > taken else Outlook.UNLIKELY


def _staying(view: RoomView) -> float:
    """The share of the places not called yet whose buyers did not leave."""
    places = view.joined - view.serving
    return view.waiting / places if places else 1.0


def turn_of(view: RoomView, place: int, at_ms: int) -> tuple[Turns, int] | None:
    """The turn of a place that was called, and when it ends; None if it has ended."""
    if place <= view.over:
        return None
    slot_ms = view.room.slot_ms
    for turns in view.turns:
        if place <= turns.serving:
            ends_ms = (turns.slot + 1) * slot_ms + view.room.turn_ttl_ms
            return (turns, ends_ms) if at_ms < ends_ms else None
    return None


def poll_after_ms(view: RoomView, ahead: int | None, chance: float) -> int:
    """When somebody who waits should ask again; `chance`, from 0 to 1, spreads them.

    Half of the earliest time at which they may be called, so it grows with the position: between a
    second and the room's `poll_max_ms`, and never more than a quarter of a turn. The chance
    shortens it by up to a half, or lengthens the shortest by up to a half, so a crowd that came at
    once does not ask at once. Before the lot is drawn: when the room opens, a crowd spread over as
    long as it takes to answer it, but for the cap.
    """
    return poll_before(view, None if ahead is None else eta_of(view, ahead), chance)


def poll_before(view: RoomView, eta: Eta | None, chance: float) -> int:
    """The same for whoever knows their ETA already."""
    longest = min(view.room.poll_max_ms, max(1, view.room.turn_ttl_ms // 4))
    shortest = min(POLL_MIN_MS, longest)
    opening = max(0, view.starts_at_ms - view.at_ms)
    if not view.drawn and opening < longest:
        crowd_ms = min(view.joined * 1000 / CROWD_POLLS_PER_S, longest - opening)
        return max(shortest, opening + round(chance * crowd_ms))
    wanted = longest if eta is None or not view.drawn else min(longest, eta.earliest_ms // 2)
    low = max(shortest, wanted / 2)
    high = max(wanted, min(longest, 1.5 * low))
    return math.ceil(high - (high - low) * chance)
