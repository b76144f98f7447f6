"""What is measured: a figure, its bound, and what stands beside it."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct


class Peer(Struct, frozen=True):
    """The same work done another way, in the same run and the same unit."""

    name: str
    value: float


class Figure(Struct, frozen=True, kw_only=True):
    """One line. `bound` is the most it may be, or with `at_least` the least; None for no target.

    must: it is no measurement, which may miss, but a promise, of which a miss is a defect.
    """

    subject: str
    name: str
    value: float
    unit: str
    bound: float | None = None
    at_least: bool = False
    peers: tuple[Peer, ...] = ()
    note: str = ""
    must: bool = False

    @property
    def verdict(self) -> str:
        """PASS or MISS, which follow from value and bound alone; "" without a bound."""
        if self.bound is None:
            return ""
        kept = self.value >= self.bound if self.at_least else self.value <= self.bound
        return "PASS" if kept else "MISS"

    def ratio(self, peer: Peer) -> float:
        """How many times the peer's value this one is."""
        return self.value / peer.value if peer.value else float("nan")


class Sizes(Struct, frozen=True, kw_only=True):
    """How much is measured.

    orders: per verb and round of the server's cost. seconds: of each run of a client or of an
    open load. first: orders of a client's warm-up. tasks, threads: callers at the same time.
    singles: calls one at a time. attempts: the small and the large end of a growing sale, whole
    batches. sales: at the large end of many sales. ttl_s: the life of the holds that are left to
    expire, long enough to take them all.
    """

    orders: int
    rounds: int
    seconds: float
    singles: int
    attempts: tuple[int, int]
    sales: int
    ttl_s: float = 2.0
    tasks: int = 2_048
    first: int = 4_096
    threads: int = 64


FULL = Sizes(
    orders=102_400, rounds=3, seconds=1.0, singles=5_000, attempts=(2_048, 1_048_576), sales=10_000
)
QUICK = Sizes(
    orders=2_560, rounds=1, seconds=0.1, singles=100, attempts=(2_048, 4_096), sales=32,
    tasks=64, threads=8, first=512, ttl_s=0.6,
)  # fmt: skip
LONG_ATTEMPTS = 9_999_872
"""Whole batches, and just below what one shard may remember."""


def peers(values: Mapping[str, float]) -> tuple[Peer, ...]:
    """Peers by name."""
    return tuple(Peer(name, value) for name, value in values.items())
