"""The order of those who were waiting when a waiting room opened: a keyed permutation of 1 … n.

Being first to a waiting page is worth nothing: whoever came before the opening gets the place that
the permutation gives to their number. No sort and no memory: a Feistel network over two digits of
base ⌈√n⌉, made even, with cycle-walking (Black and Rogaway, "Ciphers with Arbitrary Finite
Domains", CT-RSA 2002; four rounds are a pseudo-random permutation of a large domain if the round
function is one, Luby and Rackoff 1988). A crowd may be tiny, and four people have only 2^28 round
functions: with ten rounds some orders of four came 0.4 % too seldom, with the fourteen there are
0.025 % at most (exact; `tests/unit/test_tiny_crowds.py`). And an odd base makes even permutations
alone, however many the rounds: some orders of five would come twice as often as others. The round
function is SHA-1 of the seed, the round and the digit, because it is what a script inside the
server can compute (lua/lib/place_of.lua is the same function, number_of.lua the way back); what is
asked of it is to be unpredictable without the seed, for which its collisions do not matter.

The seed is fixed before anybody joins and its commitment is public; it is revealed once the numbers
are fixed. So anybody can check their own place: `check_seed`, then `place_of`.
"""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache
from math import isqrt

from flashsale.verify import hash_of

ROUNDS = 14
"""Of the Feistel network."""


def make_seed(secret: bytes, sale: str) -> str:
    """The seed of a sale's waiting room: 64 hexadecimal digits, the same in every process."""
    return hash_of(b"flashsale.room", sale, key=secret).hex()


def commitment_of(seed: str, sale: str) -> str:
    """What is published of the seed beforehand, in hexadecimal."""
    return hash_of(b"flashsale.roomed", sale, seed).hex()


def check_seed(seed: str, commitment: str, sale: str) -> bool:
    """Whether a seed is the one that was committed to."""
    return hmac.compare_digest(commitment_of(seed, sale).encode(), commitment.encode())


def place_of(seed: str, present: int, number: int) -> int:
    """The place of a number, both from 1, when `present` were waiting at the opening.

    A number beyond `present` came after the opening and is its own place. About 13 µs.
    """
    if number > present:
        return number
    side, value, rounds = isqrt(present - 1) + 1, number - 1, _rounds(seed)
    side += side % 2
    while True:
        left, right = divmod(value, side)
        for begun in rounds:
            digest = begun.copy()
            digest.update(b"%d" % right)
            left, right = right, (left + int.from_bytes(digest.digest()[:5], "big")) % side
        value = left * side + right
        if value < present:
            return value + 1


@lru_cache(maxsize=256)
def _rounds(seed: str) -> tuple[hashlib._Hash, ...]:
    """The round functions as far as they depend on the seed and the round alone."""
    return tuple(
        hashlib.sha1(f"{seed}:{at}:".encode(), usedforsecurity=False) for at in range(1, ROUNDS + 1)
    )
