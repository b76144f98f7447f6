"""What makes a draw: seeds fixed beforehand, names that tell nothing, proofs of having watched.

Everything is derived from one draw key, so that any process that has the key can enter, settle and
prove, and nothing needs to be agreed between them. `flashsale.verify` has the draw itself.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Protocol

from flashsale import verify
from flashsale.keyring import Key


class EntropySource(Protocol):
    """Public randomness that nobody knows beforehand, in numbered rounds (drand is such a one)."""

    @property
    def name(self) -> str:
        """What the record calls it; 1 to 64 characters of an identifier."""

    def round_after(self, at_ms: int) -> tuple[int, int]:
        """The first round strictly later than a time, and its own time."""

    def fetch(self, round_number: int) -> bytes | None:
        """A round's value, 16 to 1,024 bytes; None while it has not come."""


def server_seed(key: Key, sale: str, cue: str) -> bytes:
    """32 bytes that fix a committed draw, and half of a public one."""
    return verify.hash_of(b"flashsale.seed", sale, cue, key=key.secret)


def salt(key: Key, sale: str, cue: str) -> bytes:
    """32 bytes under which a cue's entrants are named; never published."""
    return verify.hash_of(b"flashsale.salt", sale, cue, key=key.secret)


def seed_commitment(seed: bytes, sale: str, cue: str) -> str:
    """What is published of the seed before the draw, in hexadecimal."""
    return verify.seed_commitment(seed, sale, cue)


def salt_commitment(value: bytes, sale: str, cue: str) -> str:
    """What is published of the salt, in hexadecimal: so that no name can be chosen afterwards."""
    return verify.hash_of(b"flashsale.salted", sale, cue, value).hex()


def public_seed(seed: bytes, entropy: bytes) -> bytes:
    """The seed of a public draw: the server's and the source's value together."""
    return verify.public_seed(seed, entropy)


def proof_of(nonce: str, sale: str, cue: str, buyer: str) -> str:
    """What a player sends to show that it saw the cue: HMAC-SHA256, in hexadecimal.

    The key is the nonce (its bytes); the message is sale, cue and buyer, each preceded by its
    length in UTF-8 bytes as a 4-byte big-endian number. A browser makes it with WebCrypto.
    """
    message = b"".join(verify.part(value) for value in (sale, cue, buyer))
    return hmac.new(bytes.fromhex(nonce), message, hashlib.sha256).hexdigest()


def check_proof(nonce: str, sale: str, cue: str, buyer: str, proof: str) -> bool:
    """Whether a proof is this buyer's for this cue, in constant time."""
    shown = proof.encode(errors="replace")  # whatever is no UTF-8 is no proof either
    return hmac.compare_digest(proof_of(nonce, sale, cue, buyer).encode(), shown)
