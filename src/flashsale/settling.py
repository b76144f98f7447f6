"""How a cue is settled: draw, award at the announced time, reveal, pass on what falls free.

Every step is a script call that does nothing if it was done before, and what is drawn is a pure
function of what was frozen (`flashsale.freezing`) and of the seed. So any process may settle a cue,
stop at any step, and another go on, also at the same time: the result is the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from msgspec import Struct

from flashsale import draw
from flashsale.baskets import encode
from flashsale.batches import CHUNK, Item, Kind, judged_of, read_answers, shard_call
from flashsale.calls import Call, Compute, Operation, expect, outcome_of
from flashsale.cues import Cue, CueState, CueView, Settlement
from flashsale.errors import ConfigurationError, ProtocolError, Rejected
from flashsale.freezing import Frozen, freeze, keeps_reserve, pages, read_entrants
from flashsale.keyring import Key, Keyring
from flashsale.keys import CueKeys, ShardKeys
from flashsale.models import Outcome
from flashsale.scripts import load_script
from flashsale.verify import Wish
from flashsale.window import Known, seed_of, show, view

Lines: TypeAlias = Iterable[tuple[str, int, int]]
"""A basket as it is asked for: sku, units, least units."""

_NOT_JUDGED = {
    Outcome.CLOCK_JUMP,
    Outcome.NOT_CLOSED,
    Outcome.FROZEN,
    Outcome.SETTLED,
    Outcome.VOID,
    Outcome.MALFORMED,
    Outcome.TRY_AGAIN,
}
"""What award.lua answers to a whole batch."""


class Verdict(Struct, frozen=True):
    """What was decided of a winner: HELD and its lines, or why not; `promoted`: not drawn."""

    outcome: Outcome
    promoted: bool
    lines: dict[str, int]


def needs_entropy(frozen: Frozen) -> bool:
    """Whether the draw waits for the public seed."""
    return (
        frozen.known.cue.entropy_source is not None
        and not frozen.entropy
        and frozen.entrants is not None
        and frozen.outcome in (Outcome.FROZEN, Outcome.SETTLED)
    )


def key_for(frozen: Frozen, keyring: Keyring) -> Key | None:
    """The draw key, or None if the seed it makes is known; ConfigurationError if it is missing."""
    return None if frozen.server_seed else keyring.named(frozen.known.cue.key)


class Ready(Struct, frozen=True):
    """What a settlement is finished by: the draw, or None if there is nothing to give (yet)."""

    outcome: Outcome
    known: Known
    drawn: draw.Drawn | None = None


def prepare(frozen: Frozen, key: Key | None, entropy: draw.Randomness | None) -> Operation[Ready]:
    """Draw: it takes no server, about 1.5 s for a million, and is best done before it is told.

    Whoever was the first to award somebody has fixed both seeds: key and entropy count no more.
    """
    known, entrants = frozen.known, frozen.entrants
    if entrants is None or frozen.outcome not in (Outcome.FROZEN, Outcome.SETTLED):
        return Ready(frozen.outcome, known)
    server_seed, entropy = _seeds(frozen, key, entropy)
    if entropy is None and known.cue.entropy_source is not None:
        return Ready(Outcome.FROZEN, known)
    drawn: draw.Drawn = yield Compute(lambda: draw.draw(entrants, server_seed, entropy))
    return Ready(frozen.outcome, known, drawn)


def wait_to_award(frozen: Frozen, told: Settlement) -> int:
    """Milliseconds until winners may be given their holds; 0 if that is not what it waits for."""
    cue, published_ms = frozen.known.cue, frozen.view.published_at_ms
    opens_ms = max(cue.reveals_at_ms, (published_ms or 0) + cue.publish_wait_ms)
    is_waiting = told.outcome in (Outcome.NOT_CLOSED, Outcome.FROZEN) and opens_ms > told.at_ms
    return opens_ms - told.at_ms + 5 if is_waiting else 0


def finish(ready: Ready) -> Operation[Settlement]:
    """Give the winners their holds, and what others left to the next in order; reveal; pass on.

    NOT_CLOSED before the announced time, with nothing written: see lua/window/award.lua.
    """
    outcome, known, drawn = ready.outcome, ready.known, ready.drawn
    if drawn is not None and outcome is Outcome.FROZEN:
        outcome = yield from _conclude(known, drawn)
        if outcome is Outcome.TRY_AGAIN:  # another process was told another value, and was first
            again = yield from freeze(known.cue.sale, known.cue.id)
            return (yield from finish((yield from prepare(again, None, None))))
    elif drawn is not None:
        told, _ = yield from _pass_on(known, drawn)
        outcome = told if told is Outcome.CLOCK_JUMP else Outcome.SETTLED
    return (yield from _settlement(outcome, known))


def _conclude(known: Known, drawn: draw.Drawn) -> Operation[Outcome]:
    """Award, pass on what was refused, reveal; again where places fell free in between.

    So before the reveal no unit of the set-aside goes to anybody but the next in order.
    """
    outcome = yield from _award(known, drawn)
    while outcome in (None, Outcome.SETTLED):  # SETTLED: others have revealed it; reveal says so
        told, freed = yield from _pass_on(known, drawn)
        if told not in (None, Outcome.SETTLED):
            return told
        outcome = yield from _reveal(known.cue, drawn, freed)
        if outcome is not Outcome.FROZEN:
            return outcome
        seen = yield from view(known.cue.sale, known.cue.id)
        outcome = None if seen.freed != freed else outcome
    assert outcome is not None
    return outcome


def _seeds(
    frozen: Frozen, key: Key | None, entropy: draw.Randomness | None
) -> tuple[bytes, draw.Randomness | None]:
    """What to draw by: the seeds of the first award, or those of the key and the source."""
    cue = frozen.known.cue
    if frozen.server_seed:
        return bytes.fromhex(frozen.server_seed), _kept(frozen.entropy)
    server_seed = seed_of(frozen.known, key)
    if cue.entropy_source is None:
        return server_seed, None
    return server_seed, None if entropy is None else draw.check_randomness(cue, entropy)


def _kept(entropy: str) -> draw.Randomness | None:
    return draw.Randomness.of_text(entropy) if entropy else None


def _award(known: Known, drawn: draw.Drawn) -> Operation[Outcome | None]:
    """Ask for the holds of the winners; None when all were judged, else why a batch was not."""
    exact = [(who, [(sku, qty, qty) for sku, qty in lines]) for who, lines in drawn.winners]
    start = 0
    while start < len(exact):
        some = exact[start : start + CHUNK]
        code, judged = yield from _award_some(known, drawn, "drawn", some)
        if code is not None:
            return code
        start += judged
    return None


def _award_some(
    known: Known,
    drawn: draw.Drawn,
    phase: str,
    wishes: Sequence[tuple[str, Lines]],
    freed: int = 0,
) -> Operation[tuple[Outcome | None, int]]:
    """Why a batch was not judged, or None; and how many of it were: the rest was too much."""
    cue, index = known.cue, dict(known.lines)
    buyers = [drawn.frozen.buyers[who] for who, _ in wishes]
    texts: dict[tuple[int, ...], int] = {}
    which = []
    for _, lines in wishes:
        by_index = sorted((index[sku], qty, least) for sku, qty, least in lines)
        flat = tuple(value for line in by_index for value in line)
        which.append(texts.setdefault(flat, len(texts) + 1))
    keys, own = ShardKeys.of(cue.sale), CueKeys.of(cue.sale, cue.id)
    base, baskets = shard_call("expire", keys), encode([list(texts), which])
    call = Call(
        load_script("window/award"),
        (*base.keys, own.cue, own.secrets, own.entries, own.awarded, keys.caps),
        (phase, encode(buyers), baskets, freed, len(drawn.winners), *_told(drawn)),
    )
    judged, reply = judged_of((yield call), len(buyers))
    items = [Item(buyer, cue.hold_id) for buyer in buyers[:judged]]
    answers = read_answers(Kind("award", cue.sale), items, reply)
    return (answers[0].outcome if answers[0].outcome in _NOT_JUDGED else None), judged


def _told(drawn: draw.Drawn) -> tuple[str, str]:
    """Both seeds of a draw as the scripts take them."""
    return drawn.server_seed.hex(), drawn.entropy.text if drawn.entropy else ""


def _reveal(cue: Cue, drawn: draw.Drawn, freed: int) -> Operation[Outcome]:
    own = CueKeys.of(cue.sale, cue.id)
    base = shard_call("expire", ShardKeys.of(cue.sale))
    reply = yield Call(
        load_script("window/reveal"),
        (*base.keys, own.cue, own.secrets, own.awarded),
        (len(drawn.winners), freed, *_told(drawn)),
    )
    _, _, code, _ = expect(reply, 4, "reveal")
    return outcome_of(code.decode(), "reveal")


def _pass_on(known: Known, drawn: draw.Drawn) -> Operation[tuple[Outcome | None, int]]:
    """Offer what is left of the set-aside to the next in order, as long as it is of use to them.

    Why it stopped before the end, or None; and how often places had fallen free when it began.

    Units may fall free meanwhile. Then whoever was passed over, because less was left than is of
    use to them, is asked again before anybody later: the script refuses the batch (TRY_AGAIN).
    """
    cue, wishes = known.cue, drawn.frozen.wishes
    winners = {who for who, _ in drawn.winners}
    waiting = [(who, wishes[who]) for who in drawn.order if who not in winners]
    start, freed, again = 0, -1, False
    while True:
        seen = yield from view(cue.sale, cue.id)
        if seen.freed != freed:  # more fell free: those who could not use less come first again
            start, freed, again = 0, seen.freed, False
        elif again:
            return Outcome.TRY_AGAIN, freed
        some, places = _who_can_use(waiting, start, seen.set_aside)
        if not some:
            return None, freed
        code, judged = yield from _award_some(known, drawn, "next", some, freed)
        if code is None:
            start = places[judged - 1] + 1
        elif code is Outcome.TRY_AGAIN:
            again = True
        else:
            return code, freed


def _who_can_use(
    waiting: Sequence[tuple[str, Wish]], start: int, left: Mapping[str, int]
) -> tuple[list[tuple[str, Wish]], list[int]]:
    """The next few, from a place on, to whom what is left is enough; and their places."""
    some, places = [], []
    for place in range(start, len(waiting) if any(left.values()) else start):
        if all(least <= left[sku] for sku, _, least in waiting[place][1]):
            some.append(waiting[place])
            places.append(place)
            if len(some) == CHUNK:
                break
    return some, places


def _settlement(outcome: Outcome, known: Known) -> Operation[Settlement]:
    cue = known.cue
    seen = yield from view(cue.sale, cue.id)
    verdicts: list[Verdict] = []
    if seen.state is CueState.REVEALED:
        verdicts = list((yield from _verdicts(known)).values())
    return Settlement(
        outcome=outcome,
        sale=cue.sale,
        cue=cue.id,
        entrants=seen.entrants,
        drawn=sum(not one.promoted for one in verdicts),
        awarded=sum(one.outcome is Outcome.HELD and not one.promoted for one in verdicts),
        promoted=sum(one.outcome is Outcome.HELD and one.promoted for one in verdicts),
        reserve_until_ms=seen.reserve_until_ms if keeps_reserve(seen) else None,
        at_ms=seen.at_ms,
        freeze_by_ms=cue.freeze_by_ms,
    )


def _verdicts(known: Known) -> Operation[dict[str, Verdict]]:
    """What was decided of every winner that was judged: see lua/window/award.lua."""
    texts = yield from pages(known, CueKeys.of(known.cue.sale, known.cue.id).awarded)
    names = {index: sku for sku, index in known.lines}
    found = {}
    for buyer, text in texts.items():
        outcome, lines = outcome_of(text[0], "award"), {}
        if outcome is Outcome.HELD:
            for line in (text[15:] or "0").split(","):
                index, _, qty = line.partition("*")
                lines[names[int(index)]] = int(qty or 1)
        found[buyer] = Verdict(outcome, text[1] == "n", lines)
    return found


def record(sale: str, cue: str, keyring: Keyring) -> Operation[dict[str, object]]:
    """The public record of a draw, as `flashsale.verify` describes it; Rejected before its time.

    keyring: the draw keys; of a void cue they tell the seed that was never used.
    """
    known, seen = yield from show(sale, cue)
    if seen.state not in (CueState.REVEALED, CueState.VOID):
        outcome = Outcome.FROZEN if seen.state is CueState.FROZEN else Outcome.NOT_CLOSED
        raise Rejected(outcome, f"cue {cue!r} of sale {sale!r}")
    if seen.state is CueState.VOID:
        return (yield from _void_record(known, seen, keyring))
    frozen = yield from read_entrants(known, seen)
    verdicts = yield from _verdicts(known)
    told: dict[str, object] = yield Compute(lambda: _record(seen, frozen, verdicts))
    return told


def _void_record(known: Known, seen: CueView, keyring: Keyring) -> Operation[dict[str, object]]:
    """With its digest and seed if its time had come, so that nobody voids until it suits."""
    if seen.voided_at_ms is None:
        raise ProtocolError(f"cue {known.cue.id!r}: nothing says since when it is void")
    frozen = None
    if seen.frozen_at_ms is not None:
        frozen = yield from read_entrants(known, seen)
    try:
        seed = seed_of(known, keyring.named(known.cue.key))
    except ConfigurationError:  # a lost key must not keep the record from being told
        seed = None
    return draw.void_record_of(
        known.cue,
        seen.reason,
        at_ms=seen.voided_at_ms,
        frozen=frozen,
        published_at_ms=seen.published_at_ms,
        server_seed=seed,
    )


def _record(seen: CueView, frozen: draw.Frozen, verdicts: dict[str, Verdict]) -> dict[str, object]:
    drawn = draw.draw(frozen, bytes.fromhex(seen.server_seed), _kept(seen.entropy))
    awards = {
        buyer: draw.Award(verdict.outcome.value, tuple(verdict.lines.items()))
        for buyer, verdict in verdicts.items()
    }
    returned = {}
    for sku, stock in frozen.cue.stock.items():
        given = sum(verdict.lines.get(sku, 0) for verdict in verdicts.values())
        # Once the reserve has ended, what is left of the set-aside no longer tells.
        back = given - stock + seen.set_aside[sku]
        if back > 0:
            returned[sku] = back
    return draw.record_of(
        drawn,
        awards,
        returned,
        final_at_ms=seen.reserve_until_ms or max(seen.revealed_at_ms or 0, seen.cue.reveals_at_ms),
        told_at_ms=seen.at_ms,
        published_at_ms=seen.published_at_ms,
    )
