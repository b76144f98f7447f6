"""Checks the record of a draw, with the standard library alone: neither server nor library needed.

(The record's format and the checks are being written.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

FORMAT = 1

Lines: TypeAlias = Sequence[tuple[str, int, int]]
"""An entry's basket: sku, wanted units, least units."""

Entrant: TypeAlias = tuple[str, int, Lines]
"""An entrant's name in hexadecimal, its window from 0, and its basket."""

Drawn: TypeAlias = tuple[str, list[tuple[str, int]]]
"""A winner's name, and what it drew."""


def part(value: str | bytes) -> bytes:
    """A part of a hashed message: its length in 4 bytes, big-endian, and its bytes."""
    raw = value.encode() if isinstance(value, str) else value
    return len(raw).to_bytes(4, "big") + raw


def hash_of(purpose: bytes, *parts: str | bytes, key: bytes = b"", size: int = 32) -> bytes:
    """BLAKE2b (RFC 7693) of parts, personalised by its purpose; a long key is hashed first."""
    short = hashlib.blake2b(key, person=b"flashsale.key").digest() if len(key) > 64 else key
    hashed = hashlib.blake2b(key=short, digest_size=size, person=purpose)
    for value in parts:
        hashed.update(part(value))
    return hashed.digest()


def seed_commitment(seed: bytes, sale: str, cue: str) -> str:
    """What fixes the seed before anybody enters."""
    return hash_of(b"flashsale.commit", sale, cue, seed).hex()


def public_seed(seed: bytes, entropy: bytes) -> bytes:
    """The seed of a draw with a public source."""
    return hash_of(b"flashsale.public", seed, entropy)


def entrant_of(salt: bytes, sale: str, cue: str, buyer: str) -> bytes:
    """16 bytes that stand for a buyer."""
    return hash_of(b"flashsale.who", sale, cue, buyer, key=salt, size=16)


def rank_of(seed: bytes, sale: str, cue: str, entrant: bytes) -> bytes:
    """32 bytes by which the entrants of one window are ordered."""
    return hash_of(b"flashsale.draw", sale, cue, entrant, key=seed)


def digest_of(sale: str, cue: str, entrants: Iterable[Entrant]) -> str:
    """What is published of the entrants when they are frozen; they come in the order of names."""
    hashed = hashlib.blake2b(digest_size=32, person=b"flashsale.freeze")
    hashed.update(part(sale) + part(cue))
    texts: dict[tuple[int, int], bytes] = {}
    for who, window, lines in entrants:
        told = texts.get((window, id(lines)))
        if told is None:
            text = ",".join(f"{sku}*{qty}~{least}" for sku, qty, least in lines)
            told = texts[window, id(lines)] = part(f"{window}|{text}")
        hashed.update(bytes.fromhex(who) + told)
    return hashed.hexdigest()


def order_of(seed: bytes, sale: str, cue: str, entrants: Iterable[Entrant]) -> list[Entrant]:
    """All entrants as they are drawn: window by window, in each by rank."""
    base = hashlib.blake2b(key=seed, digest_size=32, person=b"flashsale.draw")
    base.update(part(sale) + part(cue) + (16).to_bytes(4, "big"))
    keyed = []
    for entrant in entrants:
        hashed = base.copy()
        hashed.update(bytes.fromhex(entrant[0]))
        keyed.append((entrant[1], hashed.digest(), entrant))
    keyed.sort()
    return [entrant for _, _, entrant in keyed]


def walk(order: Iterable[Entrant], stock: Mapping[str, int]) -> list[Drawn]:
    """Goes through the order until nothing is left; who cannot have the least is passed over."""
    left = dict(stock)
    units = sum(left.values())
    drawn: list[Drawn] = []
    for who, _, lines in order:
        if units == 0:
            break
        given = [(sku, min(qty, left[sku])) for sku, qty, _ in lines]
        if any(got < least for (_, got), (_, _, least) in zip(given, lines, strict=True)):
            continue
        for sku, got in given:
            left[sku] -= got
            units -= got
        drawn.append((who, [(sku, got) for sku, got in given if got]))
    return drawn
