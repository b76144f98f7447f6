"""From a run through a waiting room to its report: everything is judged and measured here."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from flashsale import shuffle
from flashsale.models import Sale
from flashsale.rehearsal.measures import Percentiles
from flashsale.rehearsal.queue.books import Stock, claims_from, gone_ms
from flashsale.rehearsal.queue.forecasts import calibrate, eta_error, found_stock
from flashsale.rehearsal.queue.judging import (
    Seen,
    problems_of,
    said_after_ms,
    told_after_ms,
    void_reasons,
)
from flashsale.rehearsal.queue.record import Act, End, Record
from flashsale.rehearsal.queue.report import Conversion, QueuePicture, QueueReport
from flashsale.rehearsal.queue.scenario import QueueScenario
from flashsale.rehearsal.queue.watch import Course, Sample
from flashsale.rehearsal.report import FAILED, PASSED, VOID, Server
from flashsale.rehearsal.scenarios import Size
from flashsale.rehearsal.truth import PROBLEMS_MAX, ServerSide, judge
from flashsale.rooms import RoomView

COLUMNS = 78
"""Moments of a run of which a picture is drawn."""


class Ran(Struct, frozen=True, kw_only=True):
    """A run, before it is judged.

    room: the last view of it. latency_ms: by verb. server_cpu: a share of one core, memory_bytes: a
    person, by what the server's memory grew from before the first join to the opening; None if the
    server does not tell.
    """

    scenario: QueueScenario
    size: Size
    sale: Sale
    seed: int | str
    durability: str
    server: Server
    bots: int
    people: int
    record: Record
    samples: list[Sample]
    room: RoomView
    told: ServerSide
    latency_ms: dict[str, Percentiles]
    schedule_lag_ms: Percentiles
    memory_bytes: float | None
    how: str
    total_s: float


def build_queue_report(ran: Ran) -> QueueReport:
    """Compare what people were told with the books and with the room, and measure."""
    record = ran.record
    plan, claims = claims_from(record, ran.sale)
    truth = judge(plan, ran.sale, claims, ran.told)
    units = sum(sku.stock for sku in ran.sale.skus)
    seen = Seen(
        record=record,
        room=ran.room.room,
        samples=ran.samples,
        course=Course(ran.samples),
        stock=Stock(claims, units),
        places=places_of(record, ran.room),
        gone=gone_ms(record, claims, units),
        units=units,
        poll_cap_ms=ran.scenario.poll_cap_ms,
    )
    problems = [*truth.problems, *problems_of(seen)]
    void = void_reasons(record, ran.schedule_lag_ms)
    return QueueReport(
        **_setup(ran, units),
        **_people(seen, ran),
        **_told(seen, ran),
        latency_ms=ran.latency_ms,
        schedule_lag_ms=ran.schedule_lag_ms,
        generator_cpu=round(record.generator_cpu, 3),
        server_cpu=ran.server.cpu,
        memory_bytes_per_person=ran.memory_bytes,
        outcomes={act: dict(told.most_common()) for act, told in record.outcomes.items()},
        errors=dict(record.errors.most_common()),
        offered=record.offered,
        completed=record.completed,
        dropped=record.dropped,
        oversold=truth.oversold,
        lost=truth.lost,
        conservation_ok=truth.conservation_ok,
        audit_ok=ran.told.audit.ok,
        checked=truth.checked,
        picture=picture_of(ran.samples, record),
        problem_count=len(problems) + truth.problem_count - len(truth.problems),
        problems=problems[:PROBLEMS_MAX],
        void=void,
        passed=truth.ok and not problems and not void,
        exit_code=FAILED if problems or not truth.ok else VOID if void else PASSED,
        notes=[],
    )


def places_of(record: Record, view: RoomView) -> Mapping[int, int]:
    """Everybody's place, from their number and the seed that was revealed."""
    present = view.present or 0
    return {
        visit.person: visit.place or shuffle.place_of(view.seed, present, visit.number)
        for visit in record.visits.values()
        if visit.number and view.drawn
    }


def _setup(ran: Ran, units: int) -> dict[str, Any]:
    """What was decided before the run."""
    scenario, size = ran.scenario, ran.size
    return {
        "scenario": scenario.name,
        "about": scenario.about,
        "server": f"{ran.server.name} {ran.server.version}",
        "embedded": ran.server.embedded,
        "address": ran.server.address,
        "durability": ran.durability,
        "cores": os.cpu_count() or 1,
        "seed": ran.seed,
        "sale": ran.sale.id,
        "scale": f"rate 1/{size.rate_divisor:g}",
        "rate_divisor": size.rate_divisor,
        "seconds": size.seconds,
        "opens_s": scenario.opens_s(size),
        "run_s": round(ran.samples[-1].at_s, 1) if ran.samples else 0.0,
        "total_s": round(ran.total_s, 2),
        "how": ran.how,
        "people": ran.people,
        "bots": ran.bots,
        "units": units,
        "turn_s": scenario.turn_ttl_ms / 1000,
    }


def _people(seen: Seen, ran: Ran) -> dict[str, Any]:
    """What became of whom."""
    visits, last = seen.record.visits.values(), ran.room
    ends = Counter("still there" if visit.end is None else visit.end.value for visit in visits)
    in_vain = ends[End.IN_VAIN.value]
    called = last.serving - last.passed
    asked = {deed.person for deed in seen.record.deeds if deed.act is Act.HOLD}
    return {
        "places": last.joined,
        "called": called,
        "vacated": last.passed,
        "heard": sum(visit.called_ms > 0 for visit in visits),
        "admitted": sum(visit.admitted_ms > 0 for visit in visits),
        "no_shows": last.no_shows,
        "in_vain": in_vain,
        "in_vain_share": in_vain / called if called else 0.0,
        "ends": dict(ends.most_common()),
        "conversion": Conversion(
            seen.room.conversion, last.conversion, len(asked) / called if called else None
        ),
    }


def _told(seen: Seen, ran: Ran) -> dict[str, Any]:
    """How true it was what people were told, and what telling them took."""
    visits, last_ms = seen.record.visits.values(), ran.room.at_ms
    found = found_stock(seen.record, seen.course, seen.stock, seen.places)
    polls = sum(visit.polls for visit in visits)
    run_s = ran.samples[-1].at_s if ran.samples else 0.0
    late = told_after_ms(seen)
    return {
        "calibration": calibrate(
            visits,
            seen.places,
            seen.course,
            found,
            over_ms=last_ms if seen.gone is None else seen.gone[0],
        ),
        "eta": eta_error(visits, seen.places, seen.course),
        "said_after_ms": said_after_ms(seen),
        "told_after_ms": late[-1] if late else None,
        "polls": polls,
        "polls_per_s": round(polls / run_s, 1) if run_s else 0.0,
        "polls_per_person": round(polls / max(1, ran.people - ran.bots), 2),
    }


def picture_of(samples: list[Sample], record: Record) -> QueuePicture:
    """The last sample of each of so many equal parts of the run."""
    end_s = max(samples[-1].at_s, 0.001) if samples else 1.0
    step_s = end_s / COLUMNS
    chosen: list[Sample] = []
    at = 0
    for column in range(COLUMNS if samples else 0):
        while at + 1 < len(samples) and samples[at + 1].at_s <= (column + 1) * step_s:
            at += 1
        chosen.append(samples[at])
    heard = sorted(visit.gone_ms for visit in record.visits.values() if visit.end is End.GONE)
    told = [bisect_right(heard, sample.at_ms) for sample in chosen]
    waiting = [
        max(0, sample.waiting - heard_by_now)
        for sample, heard_by_now in zip(chosen, told, strict=True)
    ]
    return QueuePicture(
        step_s=step_s,
        waiting=waiting,
        told=told,
        left=[sample.vacant for sample in chosen],
        serving=[sample.serving for sample in chosen],
        outstanding=[sample.outstanding for sample in chosen],
        no_shows=[sample.no_shows for sample in chosen],
        available=[sample.available for sample in chosen],
        held=[sample.held for sample in chosen],
        sold=[sample.sold for sample in chosen],
    )
