"""How long one request is tried, and what to say in the end: shared by both shells, no I/O."""

from __future__ import annotations

import time

import redis
from msgspec import Struct

from flashsale.errors import FlashSaleError
from flashsale.faults import fault_of, give_up, pause_after, refused

ATTEMPTS = 3
"""A request's time is divided among so many attempts: a lost reply must leave time to ask again."""

REDIRECTS = 8
"""Redirections of a cluster followed at once; more of them are waited for like any failure."""


class Attempts(Struct):
    """The tries of one request until `deadline` (of `time.monotonic`).

    `sent` is true while a request may have reached the server and its reply is not there;
    `unsure`, once such a reply was lost.
    """

    deadline: float
    limit_ms: int
    tries: int = 0
    redirects: int = 0
    sent: bool = False
    unsure: bool = False
    last: Exception | None = None

    @classmethod
    def within(cls, limit_ms: int) -> Attempts:
        """Attempts that begin now."""
        return cls(time.monotonic() + limit_ms / 1000, limit_ms)

    def remaining(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    def patience(self) -> float:
        """Seconds for the next attempt; 0 or less if the time is up."""
        return min(self.limit_ms / 1000 / ATTEMPTS, self.remaining())

    def failed(self, error: Exception) -> float:
        """Judge a failed attempt: seconds to wait before the next, or its error if it is final."""
        sent, self.sent = self.sent, False
        if isinstance(error, FlashSaleError):
            raise refused(error, unsure=self.unsure) from error
        if isinstance(error, redis.exceptions.AskError):  # or MOVED, which is one
            self.last = error
            if self.redirects < REDIRECTS:
                self.redirects += 1
                return 0.0
        else:
            fault = fault_of(error, sent=sent)
            if fault.final is not None:
                raise refused(fault.final, unsure=self.unsure) from error
            self.unsure, self.last = self.unsure or fault.unsure, error
        pause = max(0.0, min(pause_after(self.tries), self.remaining()))
        self.tries += 1
        return pause

    def answered(self) -> None:
        """The reply is there: what follows is tried as if nothing had been."""
        self.tries = self.redirects = 0
        self.sent = self.unsure = False
        self.last = None

    def over(self) -> FlashSaleError:
        """What to raise, or to tell a caller who waits no longer, when the time is up."""
        error = give_up(self.last, unsure=self.unsure or self.sent, timeout_ms=self.limit_ms)
        error.__cause__ = self.last
        return error
