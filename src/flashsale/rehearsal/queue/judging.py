"""The verdict on a waiting room, rule by rule, from what people were told and what was seen."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise
from math import floor

from msgspec import Struct

from flashsale.models import Outcome
from flashsale.rehearsal.measures import Percentiles
from flashsale.rehearsal.queue.books import Stock
from flashsale.rehearsal.queue.crowd import buyer_of
from flashsale.rehearsal.queue.record import Act, Deed, End, Record, Visit
from flashsale.rehearsal.queue.watch import Course, Sample
from flashsale.rehearsal.report import CPU_MAX, LAG_P99_MAX_MS, UNANSWERED_MAX
from flashsale.rooms import WaitingRoom

SAID_MAX_MS = 1_000
"""Within which the shared state says that nothing is left."""

SLACK_MS = 1_000
"""For a poll that is under way, and a generator that is a little late."""

PRIOR_TURNS = 20
"""Turns for which the assumed conversion counts, as lua/README.md states it."""


class Seen(Struct, frozen=True, kw_only=True):
    """Everything that the rules look at.

    places: per person who has a number their place. gone: no earlier and no later than this, in the
    server's milliseconds, nothing was left for good; None: it never was.
    """

    record: Record
    room: WaitingRoom
    samples: list[Sample]
    course: Course
    stock: Stock
    places: Mapping[int, int]
    gone: tuple[int, int] | None
    units: int
    poll_cap_ms: int


def problems_of(seen: Seen) -> list[str]:
    """What is wrong, a sentence each."""
    rules = (_hopeless, _silence, _unsold, _bounds, _polls, _tickets, _places, _turns, _calls)
    return [text for rule in rules for text in rule(seen)]


def _turns(seen: Seen) -> Iterable[str]:
    """Nobody holds without a turn."""
    admitted: dict[int, list[Deed]] = defaultdict(list)
    for deed in seen.record.deeds:
        if deed.act is Act.COME:
            admitted[deed.person].append(deed)
    for deed in seen.record.deeds:
        if deed.code != Outcome.HELD.code or deed.replayed:
            continue
        turns = admitted[deed.person]
        unsure = any(not turn.code for turn in turns)
        has_turn = any(
            turn.code == Outcome.ADMITTED.code and turn.at_ms <= deed.at_ms < turn.deadline_ms
            for turn in turns
        )
        if not has_turn and not unsure:
            yield f"{buyer_of(deed.person)} held without a turn"


def _calls(seen: Seen) -> Iterable[str]:
    """Nobody is let in before their place is called."""
    for visit in seen.record.visits.values():
        if not visit.admitted_ms or visit.person not in seen.places:
            continue
        called = seen.course.called_between_ms(seen.places[visit.person])
        if called is None or visit.admitted_ms < called[0]:
            yield f"{buyer_of(visit.person)} was let in before their place was called"


def _places(seen: Seen) -> Iterable[str]:
    """A buyer has one place, and a place one buyer."""
    holders: Counter[int] = Counter()
    for visit in seen.record.visits.values():
        numbers = {visit.number, visit.tab_number} - {0}
        holders.update(numbers)
        if len(numbers) > 1 and visit.end is not End.LEFT:
            told = f"{visit.number} and {visit.tab_number}"
            yield f"{buyer_of(visit.person)} has two places, {told}"
    shared = [number for number, count in holders.items() if count > 1]
    if shared:
        yield f"{len(shared):,} numbers were given to two buyers, such as {shared[0]}"
    given = seen.samples[-1].joined if seen.samples else 0
    heard = len(holders)
    unheard = sum(seen.record.errors.values()) + seen.record.dropped
    if not heard <= given <= heard + unheard:
        yield f"the room gave {given:,} numbers, and people were told {heard:,}"


def _bounds(seen: Seen) -> Iterable[str]:
    """When places are called, no more turns are outstanding than the stock is for."""
    for before, after in pairwise(seen.samples):
        if after.serving <= before.serving:
            continue
        most = seen.stock.most(before.at_ms, after.at_ms)
        takes = min(_conversion(seen.room, before), _conversion(seen.room, after))
        bound = max(1, floor(most / (takes * (1 + seen.room.margin)) + 1e-9)) if most else 0
        if after.outstanding > bound:
            text = f"{after.outstanding:,} turns were outstanding {after.at_s:.1f} s into the run"
            yield f"{text}, the bound was {bound:,}"


def _conversion(room: WaitingRoom, sample: Sample) -> float:
    ended = sample.over - sample.ended_passed
    return (room.conversion * PRIOR_TURNS + sample.ended_units) / (PRIOR_TURNS + ended)


def _hopeless(seen: Seen) -> Iterable[str]:
    """Hopeless is said of nothing that is left."""
    told = [visit.gone_ms for visit in seen.record.visits.values() if visit.gone_ms]
    early = told if seen.gone is None else [at for at in told if at < seen.gone[0]]
    if early:
        when = "though something was left to the end"
        if seen.gone is not None:
            when = f"up to {(seen.gone[0] - min(early)) / 1000:.1f} s before the last unit was paid"
        yield f"hopeless was said to {len(early):,} people {when}"


def said_after_ms(seen: Seen) -> int | None:
    """How long after the fact it was first told that nothing is left; None: never, or no fact."""
    if seen.gone is None:
        return None
    told = [visit.gone_ms for visit in seen.record.visits.values() if visit.gone_ms]
    told += [sample.at_ms for sample in seen.samples if sample.gone]
    return max(0, min(told) - seen.gone[0]) if told else None


def told_after_ms(seen: Seen) -> list[int]:
    """How long after the fact those who waited heard of it, in order."""
    if seen.gone is None:
        return []
    return sorted(max(0, visit.gone_ms - seen.gone[1]) for visit in _waited(seen, seen.gone[1]))


def _waited(seen: Seen, gone_ms: int) -> list[Visit]:
    visits = seen.record.visits.values()
    return [visit for visit in visits if visit.end is End.GONE and visit.joined_ms < gone_ms]


def _silence(seen: Seen) -> Iterable[str]:
    """Whoever waits when nothing is left hears of it at once, or at their next poll."""
    if seen.gone is None:
        return
    after = said_after_ms(seen)
    if after is None or after > SAID_MAX_MS:
        shown = "never" if after is None else f"{after:,} ms after the fact"
        yield f"the shared state said {shown} that nothing is left, not within {SAID_MAX_MS:,} ms"
    late = [
        visit
        for visit in seen.record.visits.values()
        if visit.hope_ms >= seen.gone[1] + SAID_MAX_MS
    ]
    if late:
        longest = max(visit.hope_ms for visit in late) - seen.gone[1]
        text = f"{len(late):,} people were not told that nothing is left"
        yield f"{text}, up to {longest / 1000:.1f} s after the fact"
    told = told_after_ms(seen)
    most = SAID_MAX_MS + seen.poll_cap_ms + SLACK_MS
    if told and told[-1] > most:
        yield f"somebody who waited heard only after {told[-1]:,} ms that nothing is left"
    if seen.record.unserved:
        yield f"{seen.record.unserved:,} people still waited when the run ended"


def _polls(seen: Seen) -> Iterable[str]:
    longest = seen.record.longest_poll_ms
    if longest > seen.poll_cap_ms:
        yield f"somebody was told to ask again after {longest:,} ms, beyond {seen.poll_cap_ms:,} ms"


def _tickets(seen: Seen) -> Iterable[str]:
    """No ticket works for another buyer, or changed."""
    wrong = Outcome.WRONG_TICKET.code
    taken = [d for d in seen.record.deeds if d.act is Act.FORGE and d.code not in ("", wrong)]
    if taken:
        yield f"{len(taken):,} tickets of others, changed or invented, were not refused as such"


def _unsold(seen: Seen) -> Iterable[str]:
    """No stock is left while people wait for it."""
    last = seen.samples[-1] if seen.samples else None
    if last is None or last.sold >= seen.units:
        return
    waited = sum(visit.impatient for visit in seen.record.visits.values()) + seen.record.unserved
    if waited:
        yield f"{seen.units - last.sold:,} units were left unsold, though {waited:,} people waited"


def void_reasons(record: Record, lag: Percentiles) -> list[str]:
    """Why a run does not count; each reason with its figure and bound."""
    reasons = []
    if lag.p99 > LAG_P99_MAX_MS:
        reasons.append(
            f"the generator was late: schedule lag p99 {lag.p99:.1f} ms is above "
            f"{LAG_P99_MAX_MS:g} ms"
        )
    if record.dropped:
        reasons.append(f"{record.dropped:,} acts were dropped, too many were unanswered")
    if record.generator_cpu > CPU_MAX:
        reasons.append(
            f"the generator used {record.generator_cpu:.0%} of its core, above {CPU_MAX:.0%}"
        )
    unanswered = sum(record.errors.values())
    if unanswered > UNANSWERED_MAX * record.offered:
        reasons.append(f"{unanswered:,} acts got no answer, more than {UNANSWERED_MAX:.0%}")
    return reasons
