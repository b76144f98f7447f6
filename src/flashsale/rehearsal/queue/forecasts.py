"""How often forecasts came true: what people were told beforehand, against what became of them.

*Likely, unlikely.* What somebody was told at their last poll at least `BEFORE_MS` before their
place was called (or, if it never was, before the stock was gone). It came true as "found" if they
asked for a unit and got one; who did not ask would have found one if any was available at the
moment when their place was called; who was never called found none.

*Times.* Everybody near the front was told when their place would be called, at every poll. The
error is how far that was from when it was, to within the tenth of a second between two samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from statistics import median

from msgspec import Struct

from flashsale.rehearsal.queue.books import Stock
from flashsale.rehearsal.queue.record import Act, Record, Visit
from flashsale.rehearsal.queue.watch import SAMPLE_EVERY_S, Course
from flashsale.rooms import Outlook

BEFORE_MS = 2_000
"""A forecast counts if it was made so long before."""


class Calibration(Struct, frozen=True):
    """People who were told a forecast, how many of them found stock or would have, their share."""

    told: int
    found: int
    share: float | None


class EtaError(Struct, frozen=True):
    """Times told to people who were called later.

    median_s: of the distance from the expected time, median_share: of that over the time waited.
    inside: share of those with a latest time that came true within the stated range; unbounded: how
    many had no latest time.
    """

    told: int
    median_s: float | None
    median_share: float | None
    inside: float | None
    unbounded: int


def found_stock(
    record: Record, course: Course, stock: Stock, places: Mapping[int, int]
) -> Callable[[Visit], bool]:
    """Whether somebody found stock when called, or would have."""
    asked = {deed.person for deed in record.deeds if deed.act is Act.HOLD}

    def found(visit: Visit) -> bool:
        if visit.person in asked:
            return visit.held_ms > 0
        called_ms = course.called_ms(places[visit.person])
        return called_ms is not None and stock.available(called_ms) > 0

    return found


def calibrate(
    visits: Iterable[Visit],
    places: Mapping[int, int],
    course: Course,
    found: Callable[[Visit], bool],
    *,
    over_ms: int,
) -> dict[str, Calibration]:
    """By forecast; `over_ms` is when it was decided for all whose place was never called."""
    told = {outlook.value: [0, 0] for outlook in (Outlook.LIKELY, Outlook.UNLIKELY)}
    for visit in visits:
        if visit.person not in places:
            continue
        called_ms = course.called_ms(places[visit.person])
        word = outlook_at(visit, (over_ms if called_ms is None else called_ms) - BEFORE_MS)
        if word:
            told[word][0] += 1
            told[word][1] += found(visit)
    return {
        word: Calibration(count, hits, hits / count if count else None)
        for word, (count, hits) in told.items()
    }


def outlook_at(visit: Visit, at_ms: int) -> str:
    """The forecast that somebody had last been told at a time; "" before the first."""
    word = ""
    for when, told in zip(visit.outlooks[::2], visit.outlooks[1::2], strict=True):
        if when > at_ms:
            break
        word = told
    return word


def eta_error(visits: Iterable[Visit], places: Mapping[int, int], course: Course) -> EtaError:
    """Over everything that people who were called had been told before."""
    errors, shares, inside, bounded, count = [], [], 0, 0, 0
    slack_ms = 1000 * SAMPLE_EVERY_S
    for visit in visits:
        called_ms = course.called_ms(places[visit.person]) if visit.etas else None
        if called_ms is None:
            continue
        etas = iter(visit.etas)
        for when, expected, earliest, latest in zip(etas, etas, etas, etas, strict=True):
            waited = called_ms - when
            if waited <= 0:
                continue
            count += 1
            errors.append(abs(expected - waited) / 1000)
            shares.append(abs(expected - waited) / waited)
            if latest >= 0:
                bounded += 1
                inside += earliest - slack_ms <= waited <= latest + slack_ms
    return EtaError(
        count,
        median(errors) if errors else None,
        median(shares) if shares else None,
        inside / bounded if bounded else None,
        count - bounded,
    )
