"""What joining costs the server: batches of 256 that are packed beforehand, on one connection."""

from __future__ import annotations

from loadtests.targets.figures import Figure
from loadtests.targets.figures import peers as beside
from loadtests.waiting import queues
from loadtests.waiting.people import Hall, Spent, joins

SUBJECT = "join"
SAMPLE = 102_400
"""As many as `loadtests.targets` measures a verb with."""


def measure(hall: Hall) -> list[Figure]:
    """Joins of everybody, the same again, tickets alone; each beside the other queues."""
    zset, incr = _peers(hall)
    small, _ = _places(hall, min(SAMPLE, hall.crowd.people), "a sample joins")
    new, again = _places(hall, hall.crowd.people, "everybody joins")
    tickets = _tickets(hall)
    hall.machine.empty()
    return [
        _us(f"join of {min(SAMPLE, hall.crowd.people):,}, server CPU", small, zset, incr, 1.5),
        _us(f"join of {hall.crowd.people:,} (all), server CPU", new, zset, incr, 1.5),
        Figure(
            subject=SUBJECT, name="join, memory", value=new.bytes, unit="B", bound=60,
            peers=beside({queues.ZSET: zset.bytes, queues.INCR: incr.bytes}),
            note="server, after the last has joined",
        ),
        Figure(
            subject=SUBJECT, name="joins, packed, one connection", value=new.per_s, unit="/s",
            peers=beside({queues.ZSET: zset.per_s, queues.INCR: incr.per_s}),
        ),
        _us("join again (replayed), server CPU", again, zset, incr),
        _us("join, tickets only, server CPU", tickets, zset, incr),
        Figure(
            subject=SUBJECT, name="join, tickets only, memory", value=tickets.bytes, unit="B",
            peers=beside({queues.INCR: incr.bytes}),
        ),
    ]  # fmt: skip


def _us(name: str, spent: Spent, zset: Spent, incr: Spent, bound: float | None = None) -> Figure:
    return Figure(
        subject=SUBJECT, name=name, value=spent.us, unit="µs", bound=bound,
        peers=beside({queues.ZSET: zset.us, queues.INCR: incr.us}),
        note=f"{spent.per_s:,.0f}/s",
    )  # fmt: skip


def _places(hall: Hall, count: int, what: str) -> tuple[Spent, Spent]:
    """Joins of so many, and of the same again."""
    hall.machine.empty()
    view = hall.open()
    hall.say(f"{what}: {count:,}")
    new = hall.send_parts(count, lambda who: joins(view, who))
    if hall.machine.client.hget(f"flashsale:{{{view.sale}#0}}:room", "joined") != b"%d" % count:
        raise RuntimeError("not everybody has a number")
    hall.say(f"{what} again")
    return new, hall.send_parts(min(count, hall.crowd.share(10)), lambda who: joins(view, who))


def _tickets(hall: Hall) -> Spent:
    hall.machine.empty()
    view = hall.open(one_place=False)
    hall.say("tickets only")
    return hall.send_parts(hall.crowd.share(5), lambda who: joins(view, who))


def _peers(hall: Hall) -> tuple[Spent, Spent]:
    hall.machine.empty()
    hall.say(f"a sorted set of {hall.crowd.people:,}")
    zset = queues.cost(hall.machine, hall.crowd.people, queues.zset_joins)
    hall.machine.empty()
    hall.say("a counter")
    incr = queues.cost(hall.machine, hall.crowd.share(5), lambda who, _: queues.counts(len(who)))
    return zset, incr
