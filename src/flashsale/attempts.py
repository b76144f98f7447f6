"""How long one request is tried, and what to say in the end: shared by both shells, no I/O."""

from __future__ import annotations

import time

import redis
from msgspec import Struct

from flashsale.calls import Call
from flashsale.errors import FlashSaleError
from flashsale.faults import fault_of, give_up, is_out_of_memory, pause_after, refused

ATTEMPTS = 3
"""A request's time is divided among so many attempts: a lost reply must leave time to ask again."""

REDIRECTS = 8
"""Redirections of a cluster followed at once; more of them are waited for like any failure."""

CLOSED = "the client was closed"
"""Why a call ends without an answer when its client is closed."""


def out_of_time(limit_ms: int) -> str:
    """Why a call ends without an answer when its time is up."""
    return f"no answer within {limit_ms} ms"


class Span:
    """A call's own time, for all the parts that it is made of."""

    def __init__(self, limit_ms: int) -> None:
        self.limit_ms = limit_ms
        self.deadline = time.monotonic() + limit_ms / 1000

    @property
    def left_ms(self) -> int:
        """Milliseconds that are left, 1 at least: a part that has none fails by itself."""
        return max(1, round((self.deadline - time.monotonic()) * 1000))


class Regroup(FlashSaleError):
    """A batch has to be made anew before it is sent; nobody but a gatherer sees this."""


class Attempts(Struct):
    """The tries of one request until `deadline` (of `time.monotonic`).

    `sent` is true while a request may have reached the server and its reply is not there;
    `unsure`, once such a reply was lost; `replied`, from a reply to the next request.
    `is_full`: the server has no memory left for this call, so its script's twin is sent instead.
    `withdrawn`: somebody was told that its part was not applied, so it must not be sent.
    `alone`: it serves one caller, so that it may be refused where too many wait.

    One thread may withdraw while another one sends: the order in which these are written and
    read makes sure that what was withdrawn is not sent, or that its caller is told it may be.
    """

    deadline: float
    limit_ms: int
    tries: int = 0
    redirects: int = 0
    sent: bool = False
    unsure: bool = False
    replied: bool = False
    is_full: bool = False
    withdrawn: bool = False
    alone: bool = False
    last: Exception | None = None

    @classmethod
    def within(cls, limit_ms: int) -> Attempts:
        """One caller's attempts, which begin now."""
        return cls(time.monotonic() + limit_ms / 1000, limit_ms, alone=True)

    def remaining(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    @property
    def returns(self) -> bool:
        """It was served before, and got no answer: it has its place before those who come."""
        return self.tries + self.redirects > 0

    def patience(self) -> float:
        """Seconds for the next attempt, waits for a connection not counted; 0 if time is up."""
        return max(0.0, min(self.limit_ms / 1000 / ATTEMPTS, self.remaining()))

    def sending(self) -> None:
        """From now on the request may reach the server; Regroup if it must not as it is."""
        self.sent = True
        if self.withdrawn and not self.unsure:
            self.sent = False
            raise Regroup
        self.replied = False

    def failed(self, error: Exception, call: Call | None = None) -> float:
        """Judge a failed attempt: seconds to wait before the next, or its error if it is final."""
        if is_out_of_memory(error) and self._may_try_twin(call):
            self.is_full, self.sent = True, False
            return 0.0
        if isinstance(error, FlashSaleError):
            self.sent = False
            raise refused(error, unsure=self.unsure) from error
        if isinstance(error, redis.exceptions.AskError):  # or MOVED, which is one
            self.last, self.sent, self.is_full = error, False, False
            if self.redirects < REDIRECTS:
                self.redirects += 1
                return 0.0
        else:
            fault = fault_of(error, sent=self.sent)
            if fault.final is not None:
                self.sent = False
                raise refused(fault.final, unsure=self.unsure) from error
            self.unsure, self.last = self.unsure or fault.unsure, error
            self.sent = False
        pause = max(0.0, min(pause_after(self.tries), self.remaining()))
        self.tries += 1
        return pause

    def _may_try_twin(self, call: Call | None) -> bool:
        # Not after a lost reply: what a twin refuses in a batch is told as not applied.
        return bool(call and call.script.when_full) and not (self.is_full or self.unsure)

    def answered(self) -> None:
        """The reply is there: what follows is tried as if nothing had been."""
        self.tries = self.redirects = 0
        self.is_full = False
        self.replied = True
        self.sent = self.unsure = False
        self.last = None

    def interrupted(self) -> None:
        """Whoever sent it was interrupted: another one sends it again."""
        self.unsure = self.unsure or self.sent or self.replied
        self.sent = False

    def withdraw(self, why: str) -> FlashSaleError:
        """What to tell a caller who waits no longer, while others of the batch still do."""
        before, self.withdrawn = self.withdrawn, True
        maybe = self.sent or self.unsure or self.replied
        if maybe:
            self.withdrawn = before
        return self._give_up(why, unsure=maybe)

    def over(self) -> FlashSaleError:
        """What to raise, or to tell a caller who waits no longer, when the time is up."""
        return self._give_up(out_of_time(self.limit_ms), unsure=self.unsure or self.sent)

    def _give_up(self, why: str, *, unsure: bool) -> FlashSaleError:
        error = give_up(why, self.last, unsure=unsure)
        error.__cause__ = self.last
        return error
