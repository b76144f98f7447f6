"""A beacon for tests: real BLS signatures of a key that everybody knows. Needs the extra drand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256

from flashsale.beacons import TAG, Beacon, load_py_ecc, message_of
from flashsale.draw import Randomness

TEST_KEY = 0x5EC2E7


def local_beacon(
    *, name: str = "local-beacon", genesis_ms: int = 0, period_ms: int = 3_000
) -> Beacon:
    """A beacon whose rounds `sign` makes."""
    load_py_ecc()
    from py_ecc.bls.point_compression import compress_G2
    from py_ecc.optimized_bls12_381 import G2, multiply

    halves = compress_G2(multiply(G2, TEST_KEY))
    public_key = b"".join(int(half).to_bytes(48, "big") for half in halves).hex()
    chain_hash = sha256(name.encode()).hexdigest()
    return Beacon(name, chain_hash, public_key, genesis_ms, period_ms)


def sign(round_number: int, key: int = TEST_KEY) -> bytes:
    """The 48 bytes that the holder of the key publishes in a round."""
    load_py_ecc()
    from py_ecc.bls.hash_to_curve import hash_to_G1
    from py_ecc.bls.point_compression import compress_G1
    from py_ecc.optimized_bls12_381 import multiply

    hashed = hash_to_G1(message_of(round_number), TAG, sha256)
    return int(compress_G1(multiply(hashed, key))).to_bytes(48, "big")


class LocalBeacon:
    """An `EntropySource` of a beacon: it gives a round's signature once its time has come.

    now_ms: the clock by which rounds come. signatures: those of rounds; None: `sign` makes them.
    """

    def __init__(
        self,
        beacon: Beacon,
        now_ms: Callable[[], int],
        signatures: Mapping[int, bytes] | None = None,
    ) -> None:
        self.name = beacon.name
        self._beacon, self._now_ms, self._signatures = beacon, now_ms, signatures

    def round_after(self, at_ms: int) -> tuple[int, int]:
        number = self._beacon.round_after(at_ms)
        return number, self._beacon.time_of(number)

    def fetch(self, round_number: int) -> Randomness | None:
        if self._now_ms() < self._beacon.time_of(round_number):
            return None
        made = self._signatures
        signature = sign(round_number) if made is None else made[round_number]
        return Randomness(sha256(signature).digest(), signature)
