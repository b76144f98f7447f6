"""What many ask at one time is read once: who reads, and whose result counts, without I/O.

A result counts for whoever asked before its reading began: it is never older than the question.
So at most two readings of one thing are there at a time: one that has begun, and one that begins
after it, for all who have asked meanwhile. Where an older result is as good, whoever asks later
takes what has begun.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from msgspec import Struct


class TooLate(Exception):
    """Nobody's reading was there in time; for the shells alone."""


class Reading(Struct, eq=False):
    """One caller's reading, for all who wait for it; nobody waits for it past `until`.

    `bell` wakes them. `result` is a tuple of one value, once it is there.
    """

    until: float
    bell: Any
    ended: bool = False
    result: tuple[Any] | None = None
    error: Exception | None = None


class Table:
    """All readings of a client, by what is read. Each step is one assignment: none is half done."""

    def __init__(self) -> None:
        self._table: dict[Hashable, tuple[Reading | None, Reading | None]] = {}

    def __len__(self) -> int:
        return len(self._table)

    def join(
        self, name: Hashable, own: Reading, now: float, any_age: bool
    ) -> tuple[Reading | None, bool]:
        """Whom to wait for, and whether their result counts; None: read now.

        Whoever waits for what does not count joins again then, with the same `own`.
        """
        begun, following = self._table.get(name, (None, None))
        if begun is not None and (begun.ended or begun.until <= now):
            begun = None
        if following is None or following.ended or following.until <= now:
            following = None
        if begun is not None and any_age:
            return begun, True
        if begun is None and following in (None, own):
            self._table[name] = (own, None)
            return None, False
        if following is None:
            following = own
            self._table[name] = (begun, following)
        return (begun, False) if following is own else (following, True)

    def leave(self, name: Hashable, own: Reading) -> None:
        """A reading has ended, however."""
        own.ended = True
        begun, following = self._table.get(name, (None, None))
        left = (None if begun is own else begun, None if following is own else following)
        if left == (None, None):
            self._table.pop(name, None)
        else:
            self._table[name] = left
