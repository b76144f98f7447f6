"""Public randomness for tests: it comes when told, and everybody who knows the secret knows it."""

from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import blake2b

from flashsale.draw import Randomness


class LocalEntropy:
    """An `EntropySource` without a network: rounds at fixed times, values from a secret.

    Whoever has the secret knows every round beforehand, so it is for tests alone. now_ms: the
    clock that decides which rounds have come.
    """

    def __init__(
        self,
        secret: bytes = b"for tests alone",
        *,
        period_ms: int = 1_000,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.name = "local"
        self._secret = secret
        self._period_ms = period_ms
        self._now_ms = now_ms

    def round_after(self, at_ms: int) -> tuple[int, int]:
        """The first round strictly later than a time, and its own time."""
        number = at_ms // self._period_ms + 1
        return number, number * self._period_ms

    def fetch(self, round_number: int) -> Randomness | None:
        """32 bytes, without a signature; None while the round has not come."""
        if self._now_ms() < round_number * self._period_ms:
            return None
        made = self._secret + round_number.to_bytes(8, "big")
        return Randomness(blake2b(made, digest_size=32).digest())
