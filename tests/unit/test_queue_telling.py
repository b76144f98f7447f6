"""What the pumps of a waiting room report, and what the desk makes of it."""

from __future__ import annotations

from collections import Counter

import msgspec

from flashsale.rehearsal import WAITING_ROOM
from flashsale.rehearsal.measures import new_histogram, record_ms
from flashsale.rehearsal.queue.books import claims_from
from flashsale.rehearsal.queue.record import Act, Deed, End, Visit
from loadtests.surge.queue_telling import QueueDesk, QueueTally
from loadtests.surge.telling import Order, Standing

SIZE = WAITING_ROOM.sized(rate_divisor=100)
ORDER = Order(
    scenario=WAITING_ROOM.name,
    size=SIZE,
    seed=1,
    sale="sale",
    url="",
    durability="memory",
    index=0,
    workers=2,
    in_flight=10,
    settle_s=1.0,
)


def desk() -> QueueDesk:
    return QueueDesk(ORDER, ORDER.queue_plan())


def report(worker: int, serial: int, standing: Standing, *rows: Visit | Deed) -> bytes:
    meter = new_histogram()
    record_ms(meter, 3.0)
    tally = QueueTally(
        worker=worker,
        serial=serial,
        standing=standing,
        visits=[row for row in rows if isinstance(row, Visit)],
        deeds=[row for row in rows if isinstance(row, Deed)],
        outcomes={"join": {"joined": 5 * (serial + 1)}},
        errors={},
        longest_poll_ms=100 + worker,
        offered=5,
        completed=5,
        dropped=0,
        unserved=0,
        latency={verb: meter.encode() for verb in ("join", "position", "admit", "hold")},
        schedule_lag=meter.encode(),
        held=1,
        paid=0,
        cpu=0.25,
    )
    return msgspec.msgpack.encode(tally)


def everybody(worker: int) -> list[Visit]:
    people = range(worker, ORDER.queue_plan().people, 2)
    return [Visit(person, number=person + 1, end=End.GONE) for person in people]


def test_reports_add_up_to_the_record_of_one_run() -> None:
    at = desk()
    at.take(report(0, 0, Standing.SURGE, Visit(0, number=1), Deed(Act.HOLD, 0, 1.0, 1.1, "S")))
    at.take(report(0, 1, Standing.DONE, *everybody(0), Deed(Act.HOLD, 0, 2.0, 2.1, "H")))
    at.take(report(1, 0, Standing.DONE, *everybody(1)))
    assert (at.done, at.lost, at.cpus) == ({0, 1}, [], [0.25, 0.25])
    record = at.record()
    assert len(record.visits) == ORDER.queue_plan().people
    assert record.visits[0].end is End.GONE
    assert [deed.code for deed in record.deeds] == ["S", "H"]
    assert record.outcomes == {"join": Counter(joined=15)}
    assert (record.offered, record.longest_poll_ms) == (10, 101)
    assert at.latency_ms()["admit"].max == at.schedule_lag().max == 3.001
    assert at.progress(1.0).held == 2


def test_a_report_that_is_missing_makes_its_worker_lost() -> None:
    at = desk()
    at.take(report(0, 0, Standing.SURGE))
    at.take(report(0, 2, Standing.DONE))
    assert at.lost == [0, 1]


def test_a_lost_worker_accuses_nobody() -> None:
    at = desk()
    at.take(report(1, 0, Standing.DONE, *everybody(1)))
    held = Deed(Act.HOLD, 0, 1.0, 1.1, "H", at_ms=50_000, deadline_ms=62_000)
    at.take(report(0, 0, Standing.SURGE, Visit(0, number=1, held_ms=50_000), held))
    record = at.record()
    assert record.errors["OutcomeUnknown"] > 400
    sale = WAITING_ROOM.sale_for(SIZE, "sale")
    _, claims = claims_from(record, sale)
    assert claims.held[0].unsure
    assert len(claims.maybe) > 400
    assert claims.problems == []
