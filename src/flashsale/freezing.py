"""How a cue is frozen and its digest published; how it is made void, and where its stock goes then.

Every step is a script call that does nothing if it was done before, so any process may take it, and
several at once. `flashsale.settling` goes on from what is frozen here.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from flashsale import draw, limits
from flashsale.batches import perform_once, shard_call
from flashsale.calls import Call, Compute, Operation, expect, outcome_of
from flashsale.cues import Cue, CueState, CueView, Freeze, check_cue_id
from flashsale.errors import InvalidRequest, ProtocolError, StoreError
from flashsale.keys import CueKeys, ShardKeys
from flashsale.models import Answer, Outcome
from flashsale.scripts import load_script
from flashsale.window import Known, read_entry, reject, show, view

Publish: TypeAlias = Callable[[str, Cue], object]
"""What publishes a digest, given that and the cue."""

PAGE = 2_000
"""Entries read by one call."""


class Frozen(Struct, frozen=True):
    """How far a cue's freeze has come.

    `entrants` are None while they were not read, because nothing is left to give. server_seed and
    entropy, in hexadecimal: by which the first winners were drawn, "" before there were any.
    """

    outcome: Outcome
    known: Known
    view: CueView
    entrants: draw.Frozen | None = None
    server_seed: str = ""
    entropy: str = ""


def wait_for_close(frozen: Frozen) -> int:
    """Milliseconds until the cue closes; 0 if it has."""
    if frozen.outcome is not Outcome.NOT_CLOSED:
        return 0
    return max(20, frozen.known.cue.closes_at_ms - frozen.view.at_ms + 5)


def check_source(cue: Cue, entropy: draw.EntropySource | None) -> draw.EntropySource:
    """The source the cue was opened with, and no other."""
    if entropy is None or entropy.name != cue.entropy_source:
        given = "None" if entropy is None else limits.shown(entropy.name)
        rule = f"must be the source named {cue.entropy_source!r}, which the cue was opened with"
        raise InvalidRequest("entropy", f"{rule}, not {given}")
    return entropy


def freeze(sale: str, cue: str, source: draw.EntropySource | None = None) -> Operation[Frozen]:
    """Freeze a closed cue's entries and keep their digest; does nothing that is done already.

    source: of a public draw. A value that is there before the digest is kept voids the cue,
    whatever the server's clock says.
    """
    known, seen = yield from show(sale, cue)
    is_out = yield from _is_out(known.cue, seen, source)
    outcome, *seeds = yield from _freeze(sale, cue, known=is_out)
    if outcome is Outcome.SETTLED and keeps_reserve(seen):
        yield from _sweep(sale)  # who has not paid makes room, though nobody else calls
    seen = yield from view(sale, cue)
    if outcome is Outcome.VOID:
        yield from _keep_digest(known, seen)
        return Frozen(outcome, known, (yield from view(sale, cue)))
    passed_on = outcome is Outcome.SETTLED and not any(seen.set_aside.values())
    if outcome not in (Outcome.FROZEN, Outcome.SETTLED) or passed_on:
        return Frozen(outcome, known, seen)
    entrants = yield from read_entrants(known, seen)
    if outcome is Outcome.FROZEN and not seen.digest:
        is_out = yield from _is_out(known.cue, seen, source)
        outcome, *seeds = yield from _freeze(
            sale, cue, entrants.digest, len(entrants.buyers), known=is_out
        )
        if outcome is Outcome.CONFLICT:
            raise ProtocolError(f"cue {cue!r}: two processes read different entrants")
        seen = yield from view(sale, cue)
    return Frozen(outcome, known, seen, entrants, *seeds)


def _is_out(cue: Cue, seen: CueView, source: draw.EntropySource | None) -> Operation[bool]:
    """Whether the public seed's value is there before the digest is; asked of the source."""
    if cue.entropy_source is None or seen.digest or seen.state is CueState.VOID:
        return False
    asked = check_source(cue, source)
    value = yield Compute(lambda: asked.fetch(cue.entropy_round or 0))
    return value is not None


def _keep_digest(known: Known, seen: CueView) -> Operation[None]:
    """Of a cue that froze its entries when it was made void: its record tells who had entered."""
    if seen.frozen_at_ms is not None and not seen.digest:
        found = yield from read_entrants(known, seen)
        yield from _freeze(known.cue.sale, known.cue.id, found.digest, len(found.buyers))


def _freeze(
    sale: str, cue: str, digest: str = "", entrants: int = 0, *, known: bool = False
) -> Operation[tuple[Outcome, str, str]]:
    """What has become of the freeze, and the seeds of those who were drawn already."""
    base = shard_call("expire", ShardKeys.of(sale))
    own = CueKeys.of(sale, cue)
    used = (*base.keys, own.cue, own.secrets)
    args = (digest, entrants, "1" if known else "")
    reply = yield Call(load_script("window/freeze"), used, args)
    _, _, code, _, _, server_seed, entropy = expect(reply, 7, "freeze")
    outcome = outcome_of(code.decode(), "freeze")
    if outcome in (Outcome.CUE_UNKNOWN, Outcome.SALE_UNKNOWN, Outcome.PURGED):
        reject(sale, cue, code)
    return outcome, server_seed.decode(), entropy.decode()


def keeps_reserve(seen: CueView) -> bool:
    """Whether places that fall free still go to the next in order."""
    return seen.reserve_until_ms is not None and seen.at_ms < seen.reserve_until_ms


def _sweep(sale: str) -> Operation[None]:
    more = 1
    while more:
        reply = yield shard_call("expire", ShardKeys.of(sale), limits.SWEEP_MAX)
        _, _, _, more, _ = expect(reply, 5, "expire")


def check_publish(frozen: Frozen, publish: Publish | None) -> Publish | None:
    """What is to publish the digest now, or None if nothing is; InvalidRequest if it is missing."""
    place = frozen.known.cue.publish
    if publish is not None and (place is None or not callable(publish)):
        rule = "must be a function of the digest and the cue, or None"
        if place is None:
            rule = "must be None: the cue was opened without a place for its digest"
        raise InvalidRequest("publish", f"{rule}, not {limits.shown(publish)}")
    if place is None or frozen.outcome is not Outcome.FROZEN or frozen.view.published_at_ms:
        return None
    if publish is None:
        rule = "must be given: the cue's digest has still to be published at"
        raise InvalidRequest("publish", f"{rule} {place!r}")
    return publish


def published(frozen: Frozen, source: draw.EntropySource | None) -> Operation[Frozen]:
    """Note that the digest is published; too late for the public seed it voids the cue."""
    cue = frozen.known.cue
    is_out = yield from _is_out(cue, replace(frozen.view, digest=""), source)
    base = shard_call("expire", ShardKeys.of(cue.sale))
    own = (*base.keys, CueKeys.of(cue.sale, cue.id).cue)
    reply = yield Call(load_script("window/publish"), own, ("1" if is_out else "",))
    _, _, code, _ = expect(reply, 4, "publish")
    outcome = outcome_of(code.decode(), "publish")
    seen = yield from view(cue.sale, cue.id)
    return replace(frozen, outcome=outcome, view=seen)


def freeze_of(frozen: Frozen) -> Freeze:
    """What came of a freeze, for everybody."""
    cue, seen = frozen.known.cue, frozen.view
    return Freeze(
        outcome=frozen.outcome,
        sale=cue.sale,
        cue=cue.id,
        digest=seen.digest,
        entrants=seen.entrants,
        frozen_at_ms=seen.frozen_at_ms,
        published_at_ms=seen.published_at_ms,
        freeze_by_ms=cue.freeze_by_ms,
        at_ms=seen.at_ms,
    )


def pages(known: Known, key: str) -> Operation[dict[str, str]]:
    """All of a hash of a frozen cue."""
    keys, own = ShardKeys.of(known.cue.sale), CueKeys.of(known.cue.sale, known.cue.id)
    found: dict[str, str] = {}
    cursor = b"0"
    while True:
        reply = yield Call(load_script("window/entries"), (keys.sale, own.cue, key), (cursor, PAGE))
        _, _, code, cursor, flat = expect(reply, 5, "entries")
        reject(known.cue.sale, known.cue.id, code)
        for at in range(0, len(flat), 2):
            found[flat[at].decode()] = flat[at + 1].decode()
        if cursor == b"0":
            return found


def read_entrants(known: Known, seen: CueView) -> Operation[draw.Frozen]:
    """The entrants of a cue that is frozen; ProtocolError if they are not those of its digest."""
    cue, at_ms = known.cue, seen.frozen_at_ms
    if at_ms is None:
        raise ProtocolError(f"cue {cue.id!r}: nothing says when it was frozen")
    texts = yield from pages(known, CueKeys.of(cue.sale, cue.id).entries)

    def name_all() -> draw.Frozen:
        shared = {text: read_entry(known, text) for text in set(texts.values())}
        entries = ((buyer, *shared[text]) for buyer, text in texts.items())
        return draw.freeze(cue, known.salt, entries, at_ms=at_ms, share=known.share)

    found: draw.Frozen = yield Compute(name_all)
    if seen.digest and seen.digest != found.digest:
        raise ProtocolError(f"cue {cue.id!r}: its entrants are not those that were frozen")
    return found


def void(sale: str, cue: str, reason: str) -> Operation[Answer]:
    """Say that a cue does not count; its stock stays set aside."""
    cue = check_cue_id(cue)
    reason = limits.check_note("reason", reason)
    if not reason:
        raise InvalidRequest("reason", "must be said")
    own = CueKeys.of(sale, cue)
    base = shard_call("expire", ShardKeys.of(sale))
    call = Call(load_script("window/void"), (*base.keys, own.cue, own.awarded), (reason,))
    answer = yield from perform_once(sale, call, "void")
    if answer.outcome is Outcome.VOID:
        with suppress(StoreError):  # it is void all the same, and its record has the digest
            yield from _keep_digest(*(yield from show(sale, cue)))
    return answer


def give_back(sale: str, cue: str) -> Operation[Answer]:
    """Put what a void cue still sets aside on open sale."""
    base = shard_call("expire", ShardKeys.of(sale))
    own = (*base.keys, CueKeys.of(sale, check_cue_id(cue)).cue)
    return (yield from perform_once(sale, Call(load_script("window/give_back"), own, ()), "void"))
