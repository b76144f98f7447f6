"""Who may use which connection to a server: first come, first served, and bounded. No I/O.

A `Lease` is a caller's place among those who wait and, once served, the right to one connection
until its deadline. A connection comes back to the pool through a lease that is `clean`, and in no
other way; what is lent past its deadline is not waited for any more. So whatever interrupts a
caller, at whichever line, costs a connection and never an answer or a place.
"""

from __future__ import annotations

import time
from bisect import insort
from collections import deque
from itertools import count
from typing import Any

from msgspec import Struct

WAITING_MAX = 4_096
"""Single calls that wait in a client for connections to one server; beyond that: Overloaded."""

WAITING_PER_S = 512
"""Of these, for each second that the newest one may wait: about what a slow core serves."""

CONNECTING_MAX = 8
"""Connections made at the same time to one server: the others wait for what comes back first."""

REFUSED_S = 1.0
"""How long a server, or an operating system, that refused a connection is not asked for another,
unless a new one succeeds or none is left."""

SERVE_AGAIN_S = 1.0
"""How often who waits calls `Pool.serve`: nobody else does so when a refusal is over, or when an
interrupted caller did not give back."""

CROWDED = "too many calls wait for a connection already; this one was not sent"
"""What a single call is told that finds no place."""

_LOOK_S = 0.05
"""How often it is looked for leases past their deadlines, while somebody waits."""


class Lease(Struct, eq=False):
    """A caller's place in the queue, then the right to use `connection` until `deadline`.

    `clean`: no reply is owed on the connection. It is false from before the first byte is written
    (those of the handshake included) until the last reply has been read. `number`: of its coming.
    """

    deadline: float
    first: bool = False
    alone: bool = False
    served: bool = False
    clean: bool = False
    connection: Any = None
    age: int = 0
    number: int = 0
    bell: Any = None

    def ring(self) -> None:
        """Wake its caller, if that sleeps: once it is served, or the pool is retired."""


def _place(lease: Lease) -> tuple[bool, int]:
    """Who waits is in this order."""
    return not lease.first, lease.number


class Pool:
    """The connections to one server: idle, lent, and the leases of those who wait.

    In the blocking client one thread at a time calls a method, and may be interrupted at any line:
    what a caller leaves half done is put right by the next `serve`.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.retired = False
        self._idle: list[Any] = []
        self._lent: set[Lease] = set()
        self._connecting: set[Lease] = set()
        self._waiting: deque[Lease] = deque()
        self._numbers = count()
        self._age = 0
        self._refused_until = 0.0
        self._looked_at = 0.0

    # --- queueing -------------------------------------------------------------------------

    def ask(self, lease: Lease) -> bool:
        """Queue up; False if it is a single call and too many wait already.

        Who was served before and got no answer comes `first`.
        """
        if lease.alone and not lease.first and not self.has_room(lease.deadline):
            return False
        lease.number = next(self._numbers)
        insort(self._waiting, lease, key=_place)
        self.serve()
        return True

    def has_room(self, deadline: float) -> bool:
        """Whether one more single call may wait, until then."""
        waiting = len(self._waiting)
        if waiting < self.most:
            return True
        return waiting < min(WAITING_MAX, WAITING_PER_S * (deadline - time.monotonic()))

    def ask_once(self, lease: Lease) -> bool:
        """A connection that waits for nobody and passes nobody; False if there is none."""
        if self._waiting:
            return False
        lease.number = next(self._numbers)
        self._waiting.append(lease)
        self.serve()
        if not lease.served:
            self._waiting.remove(lease)
        return lease.served

    def serve(self) -> None:
        """Lend what is free to those who wait, in order."""
        while self._waiting:
            lease = self._waiting[0]
            if not lease.served:  # if it is: whoever served it was interrupted
                if not self._something_is_free():
                    return
                self._lend(lease)
            lease.ring()
            self._waiting.popleft()

    def give_back(self, lease: Lease) -> Any:
        """End a lease, whatever has come of it; returns the connection if it has to be closed.

        Again it does nothing.
        """
        connection, lease.connection = lease.connection, None
        if (
            connection is not None
            and lease.clean
            and lease in self._lent
            and lease.age == self._age
            and not self.retired
        ):
            self._idle.append(connection)
            connection = None
        self._lent.discard(lease)
        self._connecting.discard(lease)
        if not lease.served and lease in self._waiting:
            self._waiting.remove(lease)
        self.serve()
        return connection

    # --- connecting -----------------------------------------------------------------------

    def another(self, lease: Lease) -> None:
        """What was lent is of no use: the next idle one, or the right to connect."""
        lease.connection = None
        self._lend(lease)

    def connected(self, lease: Lease) -> None:
        """A new connection is ready."""
        lease.age, lease.clean = self._age, True
        self._connecting.discard(lease)
        self._refused_until = 0.0
        self.serve()

    def refused(self, lease: Lease) -> bool:
        """A new connection was refused: wait for one of those there are, in the place it had.

        False if there are none: then the server cannot be reached.
        """
        if not self._connected():
            return False
        self._refused_until = time.monotonic() + REFUSED_S
        lease.connection, lease.served = None, False
        self._connecting.discard(lease)
        self._lent.discard(lease)
        insort(self._waiting, lease, key=_place)
        self.serve()
        return True

    def forget(self) -> list[Any]:
        """Another server is to be asked: what is idle, to be closed; what is lent never returns."""
        self._age += 1
        idle, self._idle = self._idle, []
        return idle

    def retire(self) -> list[Any]:
        """Nothing is kept from now on; returns the connections in use. Wakes those who wait."""
        self.retired = True
        for lease in self._waiting:
            lease.ring()
        return [lease.connection for lease in self._lent if lease.connection is not None]

    # --- what is free ---------------------------------------------------------------------

    def _lend(self, lease: Lease) -> None:
        lease.age = self._age
        if self._idle:
            lease.connection, lease.clean = self._idle.pop(), True
        else:
            lease.clean = False
            self._connecting.add(lease)
        self._lent.add(lease)
        lease.served = True

    def _something_is_free(self) -> bool:
        return self._is_free() or (self._take_back() and self._is_free())

    def _is_free(self) -> bool:
        if len(self._lent) >= self.most:
            return False
        if self._idle:
            return True
        if time.monotonic() < self._refused_until:
            return not self._lent
        return len(self._connecting) < CONNECTING_MAX

    def _connected(self) -> int:
        return len(self._idle) + len(self._lent) - len(self._connecting)

    def _take_back(self) -> bool:
        """What interrupted callers never gave back: their connections are closed with them."""
        now = time.monotonic()
        if now < self._looked_at + _LOOK_S:
            return False
        self._looked_at = now
        over = [lease for lease in self._lent if lease.deadline < now]
        self._lent.difference_update(over)
        self._connecting.difference_update(over)
        return bool(over)
