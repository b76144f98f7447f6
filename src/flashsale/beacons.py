"""The signatures of public randomness beacons: BLS over BLS12-381, as drand's quicknet makes them.

The scheme is drand's `bls-unchained-g1-rfc9380`: a signature is a point of G1 (48 bytes), the
public key one of G2 (96 bytes), both compressed, and the message is SHA-256 of the round's number,
hashed to G1 as RFC 9380 says. It needs the extra `drand` (py-ecc); `flashsale.verify`, which pins
the beacons' parameters and runs on the standard library alone, therefore leaves it undone.
"""

from __future__ import annotations

import sys
from hashlib import sha256
from importlib.util import find_spec

from flashsale.errors import ConfigurationError
from flashsale.verify import BEACONS, QUICKNET, Beacon

__all__ = [
    "BEACONS",
    "QUICKNET",
    "Beacon",
    "can_check_signatures",
    "check_signature",
    "message_of",
]

TAG = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"
"""Separates these hashes from those of other protocols (RFC 9380, section 3.1)."""

SIGNATURE_BYTES, PUBLIC_KEY_BYTES = 48, 96
_ROUND_MAX = 2**64 - 1


def can_check_signatures() -> bool:
    """Whether the extra `drand` is installed."""
    return find_spec("py_ecc") is not None


def message_of(round_number: int) -> bytes:
    """What a beacon signs in a round: SHA-256 of its number as 8 bytes, big-endian."""
    return sha256(round_number.to_bytes(8, "big")).digest()


def check_signature(public_key: bytes, round_number: int, signature: bytes) -> bool:
    """Whether the beacon with this key made this signature in this round.

    public_key: 96 bytes, signature: 48 bytes, compressed; whatever else they are is no signature,
    never an error. About 2 s of a slow core. ConfigurationError without the extra `drand`.
    """
    if not can_check_signatures():
        raise ConfigurationError("a beacon's signature needs py-ecc: install flashsale[drand]")
    sizes = (len(signature), len(public_key))
    if sizes != (SIGNATURE_BYTES, PUBLIC_KEY_BYTES) or not 0 <= round_number <= _ROUND_MAX:
        return False
    return _is_signed(public_key, message_of(round_number), signature)


def load_py_ecc() -> None:
    """Import py-ecc, and leave Python's recursion limit as it was.

    It raises it to 100,000, which overflows the stack: what is nested too deep (the JSON of a
    hostile record) would from then on end the process instead of raising RecursionError.
    """
    limit = sys.getrecursionlimit()
    import py_ecc  # noqa: F401  (for its effect)

    sys.setrecursionlimit(limit)


def _is_signed(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """The pairing's equation e(signature, generator) = e(hash of the message, public key)."""
    load_py_ecc()
    from py_ecc.bls import point_compression
    from py_ecc.bls.g2_primitives import subgroup_check
    from py_ecc.bls.hash_to_curve import hash_to_G1
    from py_ecc.optimized_bls12_381 import FQ12, G2, final_exponentiate, is_inf, neg, pairing

    halves = tuple(int.from_bytes(public_key[at : at + 48], "big") for at in (0, 48))
    try:
        signed = point_compression.decompress_G1(int.from_bytes(signature, "big"))
        key = point_compression.decompress_G2(halves)
    except ValueError:  # no point of the curve
        return False
    # A point outside the group, or its zero, would fit other messages as well.
    if any(is_inf(point) or not subgroup_check(point) for point in (signed, key)):
        return False
    hashed = hash_to_G1(message, TAG, sha256)
    left = pairing(G2, neg(signed), final_exponentiate=False)
    right = pairing(key, hashed, final_exponentiate=False)
    return bool(final_exponentiate(left * right) == FQ12.one())
