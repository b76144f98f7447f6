"""The draw as a pure function: seeds fixed beforehand, proofs, the freeze, the draw, the record.

A cue's seed is made of a draw key and of fresh random bytes that its opening leaves in the server:
any process that has the key and may read them can settle, the key alone predicts nothing, a look
into the server alone reveals nothing, and the same ids on another server have another seed. What a
draw does with its entrants is in `flashsale.verify`, which anybody may run alone; here is what only
the seller can do, because it takes the draw key or the buyers' names. Nothing here does I/O.

A committed draw proves that, given its entrants, neither the network nor the order of arrival nor
the code changed who won. It proves nothing against those who know the seed before the freeze (the
seller; with keep="best" every process that takes entries): they can try keys, fresh bytes and
names, and enter the one that wins. A public draw, whose seed is half a beacon's, takes that from
them if its digest is seen in public before the round comes. What no draw proves is in
`flashsale.verify`.
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

Entry: TypeAlias = tuple[str, int, Wish] | tuple[str, int, Wish, str]
"""What counts of a buyer: who, in which window, wishing what (lines ascending by sku), and perhaps
the fingerprint of a device, a card or an address."""

VALUE_BYTES = (16, 1_024)
"""How long a round's value is."""


class Randomness(Struct, frozen=True):
    """What a public source gives in one round.

    value: 16 to 1,024 bytes. signature: the source's, at most 1,024 bytes, if it signs; of a beacon
    that `flashsale.verify` knows it is needed, and the value is SHA-256 of it.
    """

    value: bytes
    signature: bytes | None = None

    @property
    def text(self) -> str:
        """How it is kept, in hexadecimal: the value, and the signature after a dot."""
        signed = "" if self.signature is None else f".{self.signature.hex()}"
        return self.value.hex() + signed

    @classmethod
    def of_text(cls, text: str) -> Randomness:
        """What was kept."""
        value, dot, signature = text.partition(".")
        return cls(bytes.fromhex(value), bytes.fromhex(signature) if dot else None)


class EntropySource(Protocol):
    """Public randomness in numbered rounds at known times, such as a drand chain.

    Nobody may know a round's value before its time, and everybody may afterwards. A beacon's
    signature is checked here, before the value is given: the first award fixes it.
    """

    @property
    def name(self) -> str:
        """What the record calls it; 1 to 64 characters of an identifier."""

    def round_after(self, at_ms: int) -> tuple[int, int]:
        """The first round strictly later than a time, and its own time. Without I/O."""

    def fetch(self, round_number: int) -> Randomness | None:
        """What a round gave; None while it has not come. May block."""


def check_randomness(cue: Cue, found: object) -> Randomness:
    """What a source gave, if a record can be made of it; InvalidRequest names what cannot be."""
    low, high = VALUE_BYTES
    if not isinstance(found, Randomness):
        raise InvalidRequest("entropy", "must give a draw.Randomness, or None for not yet")
    if not isinstance(found.value, bytes) or not low <= len(found.value) <= high:
        raise InvalidRequest("value of entropy", f"must be {low} to {high} bytes")
    signature = found.signature
    if signature is not None and (
        not isinstance(signature, bytes) or not 1 <= len(signature) <= high
    ):
        raise InvalidRequest("signature of entropy", f"must be 1 to {high} bytes, or None")
    hashed = None if signature is None else hashlib.sha256(signature).digest()
    if cue.entropy_source in verify.BEACONS and hashed != found.value:
        rule = f"must be SHA-256 of the signature of {cue.entropy_source!r}"
        raise InvalidRequest("value of entropy", rule)
    return found


class Frozen(Struct, frozen=True):
    """The entrants of a cue that has closed, and their digest, which is to be published.

    `wishes` tells what an entrant wishes, `buyers` who it is; the latter never leaves the seller.
    `capped`: who is left out, because others had used up what their fingerprint may have.
    """

    cue: Cue
    at_ms: int
    groups: list[Group]
    digest: str
    wishes: dict[str, Wish]
    buyers: dict[str, str]
    capped: list[str]


class Drawn(Struct, frozen=True):
    """A draw: everybody in its order, and the winners with what they drew, in that order, too."""

    frozen: Frozen
    server_seed: bytes
    entropy: Randomness | None
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


def _counted(entries: Iterable[Entry]) -> dict[str, tuple[int, Wish, str]]:
    """Each buyer's smallest entry: the order of entries, and how often they come, change nothing.

    The server keeps one entry a buyer; this is for callers who gather taps themselves.
    """
    counted: dict[str, tuple[int, Wish, str]] = {}
    for buyer, window, wish, *rest in entries:
        entry = (window, wish, str(rest[0]) if rest else "")
        before = counted.setdefault(buyer, entry)
        if before != entry:
            counted[buyer] = min(before, entry)
    return counted


def freeze(
    cue: Cue, salt: bytes, entries: Iterable[Entry], *, at_ms: int, share: int | None = None
) -> Frozen:
    """The entrants and their digest, which is to be published before the seed is.

    at_ms: when the server froze the entries. share: how many entrants of one fingerprint take
    part: those with the smallest names, whoever came first (None: all). A buyer's entries may come
    in any order and more than once. About 5 s for a million.
    """
    ids = verify.part(cue.sale) + verify.part(cue.id)
    opening = hashlib.blake2b(ids, key=salt, digest_size=32, person=b"flashsale.open")
    buyers: dict[str, str] = {}
    together: dict[tuple[int, Wish], list[str]] = {}
    alike: dict[str, list[str]] = {}
    for buyer, (window, wish, fingerprint) in _counted(entries).items():
        last = verify.part(buyer)
        own = opening.copy()  # `entrant_of`, a million times
        own.update(last)
        named = verify.part(own.digest()) + ids + last
        entrant = hashlib.blake2b(named, digest_size=32, person=b"flashsale.who").hexdigest()
        buyers[entrant] = buyer
        together.setdefault((window, wish), []).append(entrant)
        if fingerprint and share is not None:
            alike.setdefault(fingerprint, []).append(entrant)
    capped = sorted(entrant for who in alike.values() for entrant in sorted(who)[share:])
    groups = _groups_of(together, set(capped))
    for entrant in capped:
        del buyers[entrant]
    digest = verify.digest_of(msgspec.to_builtins(cue), at_ms, groups, capped)
    return Frozen(cue, at_ms, groups, digest, verify.wishes_of(groups), buyers, capped)


def _groups_of(together: dict[tuple[int, Wish], list[str]], left_out: set[str]) -> list[Group]:
    """The entrants as the digest wants them."""
    groups = []
    for (window, wish), who in together.items():
        there = [entrant for entrant in who if entrant not in left_out] if left_out else who
        if there:
            groups.append(Group(window, wish, sorted(there)))
    return sorted(groups, key=lambda group: (group.window, verify.text_of(group.wish)))


def draw(frozen: Frozen, server_seed: bytes, entropy: Randomness | None = None) -> Drawn:
    """Order the entrants and give them the stock. About 1.5 s for a million.

    entropy: what the cue's public round gave, for a cue that announced one. Raises InvalidRequest
    if it is missing, or was not announced.
    """
    cue = frozen.cue
    if (entropy is None) != (cue.entropy_source is None):
        announced = cue.entropy_source is not None
        raise InvalidRequest("entropy", "is needed" if announced else "was not announced")
    seed = server_seed if entropy is None else verify.public_seed(server_seed, entropy.value)
    ordered = verify.order_of(seed, cue.sale, cue.id, frozen.groups)
    winners = verify.walk(ordered, frozen.wishes, cue.stock)
    return Drawn(frozen, server_seed, entropy, ordered, winners)


def record_of(
    drawn: Drawn,
    awards: Mapping[str, Award],
    returned: Mapping[str, int] | None = None,
    *,
    final_at_ms: int,
    told_at_ms: int,
    published_at_ms: int | None = None,
) -> dict[str, object]:
    """The record, as `flashsale.verify` describes it, ready for any JSON writer.

    awards: what became of buyers, by buyer: of every winner, and of those who moved up. returned:
    the units by sku that came back from holds and went to the next, if anybody moved up.
    final_at_ms: when the reserve ends; told_at_ms: now, by the server's clock. published_at_ms: for
    a cue that publishes its digest. Raises InvalidRequest for a winner without an award.
    """
    frozen = drawn.frozen
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
    kept = frozen.cue.kept
    return _sealed(
        frozen.cue,
        frozen=_told_frozen(frozen, published_at_ms),
        server_seed=drawn.server_seed.hex(),
        entropy=_told_entropy(drawn),
        entrants=[
            {"window": window, "wish": [list(line) for line in wish], "who": who}
            for window, wish, who in frozen.groups
        ],
        capped=frozen.capped,
        entrants_complete=kept is None or len(frozen.buyers) < kept,
        drawn=[[entrant, [list(line) for line in lot]] for entrant, lot in drawn.winners],
        awarded=awarded,
        returned=dict(returned or {}) if next_in_order else {},
        final_at_ms=final_at_ms,
        told_at_ms=min(told_at_ms, final_at_ms),
        void=None,
    )


def _told_frozen(frozen: Frozen, published_at_ms: int | None) -> dict[str, object]:
    return {
        "at_ms": frozen.at_ms,
        "entrants": len(frozen.buyers),
        "digest": frozen.digest,
        "published_at_ms": published_at_ms,
    }


def _told_entropy(drawn: Drawn) -> dict[str, object] | None:
    cue, entropy = drawn.frozen.cue, drawn.entropy
    if entropy is None:
        return None
    signature = None if entropy.signature is None else entropy.signature.hex()
    told = {"source": cue.entropy_source, "round": cue.entropy_round}
    return {**told, "value": entropy.value.hex(), "signature": signature}


def void_record_of(
    cue: Cue,
    reason: str,
    *,
    at_ms: int,
    frozen: Frozen | None = None,
    published_at_ms: int | None = None,
    server_seed: bytes | None = None,
) -> dict[str, object]:
    """The record of a cue that does not count since at_ms: nobody drew anything.

    frozen: the entrants, if the cue's time had come: of them the digest is told. server_seed: for
    such a cue, unless the draw key is lost.
    """
    return _sealed(
        cue,
        frozen=None if frozen is None else _told_frozen(frozen, published_at_ms),
        server_seed=None if server_seed is None or frozen is None else server_seed.hex(),
        entropy=None,
        entrants=[],
        capped=[],
        entrants_complete=False,
        drawn=[],
        awarded=[],
        returned={},
        final_at_ms=at_ms,
        told_at_ms=at_ms,
        void={"reason": reason, "at_ms": at_ms},
    )


def _sealed(cue: Cue, **fields: object) -> dict[str, object]:
    record = {"format": verify.FORMAT, "cue": msgspec.to_builtins(cue), **fields}
    return {**record, "seal": verify.seal_of(record)}
