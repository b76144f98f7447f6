"""What may be foreseen for somebody who waits: when, whether there will be stock, when to ask.

Pure functions of a `RoomView`, so that a process reads the room once a second and tells everybody
from that.

*When.* The admission rate is measured: places called in each slot of time whose turns have not
ended. Its uncertainty is two standard errors of the mean over those slots, and at least that of a
Poisson process, because calls come in steps. Before anything was called the room's own rate is all
there is.

*Whether.* `likely` if what is available now exceeds what those ahead are expected to take: turns
outstanding and places before this one, times the conversion. What unpaid holds may give back is not
counted, so `likely` errs on the safe side. Before the opening a place is not known: then it is the
chance of a place that stock is expected to reach, against one half. How often either came true is
to be measured (`flashsale rehearse waiting_room` prints it), not promised.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from flashsale.models import Outcome
from flashsale.rooms import POLL_MIN_MS, Eta, Outlook, RoomState, RoomView, Turns


class Rate(NamedTuple):
    """Places called a second: measured, and two standard errors lower and higher."""

    mean: float
    low: float
    high: float


def admission_rate(view: RoomView) -> Rate | None:
    """The measured rate; None before anything was called, or if that is too long ago."""
    if not view.turns:
        return None
    slot_ms = view.room.slot_ms
    first, last = view.turns[0].slot, view.at_ms // slot_ms
    counts = [0] * (last - first + 1)
    before = view.over
    for turns in view.turns:
        counts[turns.slot - first] = turns.serving - before
        before = turns.serving
    # The first slot counts from the opening, if that was in it, the last as far as it has passed.
    since_ms = max(first * slot_ms, view.room.opens_at_ms or 0)
    slots = max(1, view.at_ms + 1 - since_ms) / slot_ms
    mean = sum(counts) / slots
    spread = sum((count - mean) ** 2 for count in counts) / max(1.0, slots - 1)
    error = math.sqrt(max(spread, mean) / slots)
    per_s = 1000 / slot_ms
    return Rate(mean * per_s, max(0.0, mean - 2 * error) * per_s, (mean + 2 * error) * per_s)


def eta_of(view: RoomView, ahead: int) -> Eta | None:
    """When a place with so many ahead of it is called; None if nothing is being called."""
    if view.state is RoomState.PAUSED or view.closed not in (None, Outcome.NOT_OPEN):
        return None
    opening = 0
    if view.room.opens_at_ms is not None:
        opening = max(0, view.room.opens_at_ms - view.at_ms)
    rate = admission_rate(view)
    if rate is None:
        expected = opening + round((ahead + 1) * 1000 / view.rate_per_s)
        return Eta(expected, min(opening, expected), None) if view.serving == 0 else None
    places = (ahead + 1) * 1000
    latest = None if rate.low <= 0 else opening + round(places / rate.low)
    return Eta(opening + round(places / rate.mean), opening + round(places / rate.high), latest)


def outlook_of(view: RoomView, ahead: int | None) -> Outlook:
    """What somebody with so many ahead of them (None: a place not drawn yet) may expect."""
    if view.gone:
        return Outlook.HOPELESS
    before = view.joined / 2 if ahead is None else ahead
    taken = (view.outstanding + before) * view.conversion
    return Outlook.LIKELY if view.available > taken else Outlook.UNLIKELY


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
    second and the room's `poll_max_ms`, and never so long that a turn is missed. The chance
    shortens it by up to a half, so a crowd that came at once does not ask at once.
    """
    longest = min(view.room.poll_max_ms, max(1, view.room.turn_ttl_ms // 4))
    shortest = min(POLL_MIN_MS, longest)
    eta = None if ahead is None else eta_of(view, ahead)
    wanted = longest if eta is None else eta.earliest_ms // 2
    return max(shortest, math.ceil(min(longest, max(shortest, wanted)) * (1 - chance / 2)))
