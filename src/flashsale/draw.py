"""The draw as a pure function: seeds fixed beforehand, proofs, the freeze, the draw, the record.

A cue's seed is made of a draw key and of fresh random bytes that its opening leaves in the server:
any process that has the key and may read them can settle, the key alone predicts nothing, a look
into the server alone reveals nothing, and the same ids on another server have another seed. What a
draw does with its entrants is in `flashsale.verify`, which anybody may run alone; here is what only
the seller can do, because it takes the draw key or the buyers' names. Nothing here does I/O.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Protocol, TypeAlias

import msgspec
from msgspec import Struct

from flashsale import limits, verify
from flashsale.cues import Cue
from flashsale.errors import InvalidRequest
from flashsale.keyring import Key
from flashsale.verify import Group, Lot, Wish

Entry: TypeAlias = tuple[str, int, Wish]
"""What counts of a buyer: who, in which window, wishing what (lines ascending by sku)."""


class EntropySource(Protocol):
    """Public randomness in numbered rounds at known times, such as a drand chain.

    Nobody may know a round's value before its time, and everybody may afterwards.
    """

    @property
    def name(self) -> str:
        """What the record calls it; 1 to 64 characters of an identifier."""

    def round_after(self, at_ms: int) -> tuple[int, int]:
        """The first round strictly later than a time, and its own time. Without I/O."""

    def fetch(self, round_number: int) -> bytes | None:
        """A round's value, 16 to 1,024 bytes; None while it has not come. May block."""


class Frozen(Struct, frozen=True):
    """The entrants of a cue that has closed, and their digest, which is to be published.

    `wishes` tells what an entrant wishes, `buyers` who it is; the latter never leaves the seller.
    """

    cue: Cue
    at_ms: int
    groups: list[Group]
    digest: str
    wishes: dict[str, Wish]
    buyers: dict[str, str]


class Drawn(Struct, frozen=True):
    """A draw: everybody in its order, and the winners with what they drew, in that order, too."""

    frozen: Frozen
    server_seed: bytes
    entropy: bytes | None
    order: list[str]
    winners: list[tuple[str, Lot]]


class Award(Struct, frozen=True):
    """What became of a winner, or of somebody who moved up.

    `outcome` is an Outcome's value: "held", or why not. `lines` are what was held.
    """

    outcome: str
    lines: Lot = ()


# --- secrets and proofs -------------------------------------------------------------------------


def server_seed(key: Key, sale: str, cue: str, fresh: bytes) -> bytes:
    """32 bytes that fix a committed draw, and half of a public one.

    fresh: 32 random bytes made when the cue was opened, kept in the server and never told.
    """
    return verify.hash_of(b"flashsale.seed", sale, cue, fresh, key=key.secret)


def opening_of(salt: bytes, sale: str, cue: str, buyer: str) -> bytes:
    """32 bytes, a buyer's receipt: with it they can tell which name in the record is theirs.

    salt: 32 random bytes of the cue, never told, so that nobody makes another's opening.
    """
    return verify.hash_of(b"flashsale.open", sale, cue, buyer, key=salt)


def entrant_of(salt: bytes, sale: str, cue: str, buyer: str) -> bytes:
    """A buyer's name in the record, for whoever has the salt: `verify.entrant_of` its opening."""
    return verify.entrant_of(opening_of(salt, sale, cue, buyer), sale, cue, buyer)


def seed_commitment(seed: bytes, sale: str, cue: str) -> str:
    """What is published of the seed before the draw, in hexadecimal."""
    return verify.seed_commitment(seed, sale, cue)


def proof_of(nonce: str, sale: str, cue: str, buyer: str) -> str:
    """What a player sends to show that it saw the cue: HMAC-SHA256, in hexadecimal.

    The key is the nonce (its bytes); the message is sale, cue and buyer, each preceded by its
    length in UTF-8 bytes as a 4-byte big-endian number. A browser makes it with WebCrypto.
    """
    message = b"".join(verify.part(value) for value in (sale, cue, buyer))
    return hmac.new(bytes.fromhex(nonce), message, hashlib.sha256).hexdigest()


def check_proof(nonce: str, sale: str, cue: str, buyer: str, proof: str) -> bool:
    """Whether a proof is this buyer's for this cue, in constant time."""
    told = limits.plain_text(proof).encode(
        errors="replace"
    )  # a lone surrogate is wrong, not an error
    return hmac.compare_digest(proof_of(nonce, sale, cue, buyer).encode(), told)


# --- freeze, draw, record -----------------------------------------------------------------------


def _counted(entries: Iterable[Entry]) -> dict[str, tuple[int, Wish]]:
    """Each buyer's smallest entry: the order of entries, and how often they come, change nothing.

    The server keeps one entry a buyer; this is for callers who gather taps themselves.
    """
    counted: dict[str, tuple[int, Wish]] = {}
    for buyer, window, wish in entries:
        entry = (window, wish)
        before = counted.setdefault(buyer, entry)
        if before != entry:
            counted[buyer] = min(before, entry)
    return counted


def freeze(cue: Cue, salt: bytes, entries: Iterable[Entry], *, at_ms: int) -> Frozen:
    """The entrants and their digest, which is to be published before the seed is.

    at_ms: when the server froze the entries. A buyer's entries may come in any order and more than
    once. About 5 s for a million.
    """
    ids = verify.part(cue.sale) + verify.part(cue.id)
    opening = hashlib.blake2b(ids, key=salt, digest_size=32, person=b"flashsale.open")
    buyers: dict[str, str] = {}
    together: dict[tuple[int, Wish], list[str]] = {}
    for buyer, entry in _counted(entries).items():
        last = verify.part(buyer)
        own = opening.copy()  # `entrant_of`, a million times
        own.update(last)
        named = verify.part(own.digest()) + ids + last
        entrant = hashlib.blake2b(named, digest_size=32, person=b"flashsale.who").hexdigest()
        buyers[entrant] = buyer
        together.setdefault(entry, []).append(entrant)
    groups = [Group(*entry, sorted(who)) for entry, who in together.items()]
    groups.sort(key=lambda group: (group.window, verify.text_of(group.wish)))
    digest = verify.digest_of(msgspec.to_builtins(cue), at_ms, groups)
    return Frozen(cue, at_ms, groups, digest, verify.wishes_of(groups), buyers)


def draw(frozen: Frozen, server_seed: bytes, entropy: bytes | None = None) -> Drawn:
    """Order the entrants and give them the stock. About 1.5 s for a million.

    entropy: the value of the cue's public round, for a cue that announced one. Raises
    InvalidRequest if it is missing, or was not announced.
    """
    cue = frozen.cue
    if (entropy is None) != (cue.entropy_source is None):
        announced = cue.entropy_source is not None
        raise InvalidRequest("entropy", "is needed" if announced else "was not announced")
    seed = server_seed if entropy is None else verify.public_seed(server_seed, entropy)
    ordered = verify.order_of(seed, cue.sale, cue.id, frozen.groups)
    winners = verify.walk(ordered, frozen.wishes, cue.stock)
    return Drawn(frozen, server_seed, entropy, ordered, winners)


def record_of(
    drawn: Drawn, awards: Mapping[str, Award], returned: Mapping[str, int] | None = None
) -> dict[str, object]:
    """The record, as `flashsale.verify` describes it, ready for any JSON writer.

    awards: what became of buyers, by buyer: of every winner, and of those who moved up. returned:
    the units by sku that came back from holds and went to the next, if anybody moved up. Raises
    InvalidRequest for a winner without an award.
    """
    frozen, cue = drawn.frozen, drawn.frozen.cue
    winners = {entrant for entrant, _ in drawn.winners}
    next_in_order = [
        entrant
        for entrant in (drawn.order if len(awards) > len(winners) else ())
        if entrant not in winners and frozen.buyers[entrant] in awards
    ]
    awarded = []
    for entrant in (*(entrant for entrant, _ in drawn.winners), *next_in_order):
        award = awards.get(frozen.buyers[entrant])
        if award is None:
            raise InvalidRequest("awards", "must have every winner: one has not been judged yet")
        awarded.append([entrant, award.outcome, sorted(map(list, award.lines))])
    entropy = None
    if drawn.entropy is not None:
        told = {"source": cue.entropy_source, "round": cue.entropy_round}
        entropy = {**told, "value": drawn.entropy.hex()}
    count = len(frozen.buyers)
    return _sealed(
        cue,
        frozen={"at_ms": frozen.at_ms, "entrants": count, "digest": frozen.digest},
        server_seed=drawn.server_seed.hex(),
        entropy=entropy,
        entrants=[
            {"window": window, "wish": [list(line) for line in wish], "who": who}
            for window, wish, who in frozen.groups
        ],
        entrants_complete=cue.kept is None or count < cue.kept,
        drawn=[[entrant, [list(line) for line in lot]] for entrant, lot in drawn.winners],
        awarded=awarded,
        returned=dict(returned or {}) if next_in_order else {},
        void=None,
    )


def void_record_of(cue: Cue, reason: str) -> dict[str, object]:
    """The record of a cue that does not count: nobody drew anything, and nothing is revealed."""
    return _sealed(
        cue,
        frozen=None,
        server_seed=None,
        entropy=None,
        entrants=[],
        entrants_complete=False,
        drawn=[],
        awarded=[],
        returned={},
        void=reason,
    )


def _sealed(cue: Cue, **fields: object) -> dict[str, object]:
    record = {"format": verify.FORMAT, "cue": msgspec.to_builtins(cue), **fields}
    return {**record, "seal": verify.seal_of(record)}
