"""How long an attempt may take, also for what redis-py does on its way."""

from __future__ import annotations

import threading
import time
from typing import Any


class _Attempt(threading.local):
    """How long this thread's attempt may take, for a connection that is made on its way."""

    end = 0.0

    def begin(self, seconds: float) -> None:
        """It begins now."""
        self.end = time.monotonic() + seconds

    def waited(self, since: float, deadline: float) -> None:
        """Waiting for a connection is not part of it; nothing outlasts the call's deadline."""
        self.end = min(self.end + time.monotonic() - since, deadline)

    @property
    def seconds(self) -> float:
        """What is left of it."""
        return max(self.end - time.monotonic(), 0.001)


attempt = _Attempt()
"""This thread's."""


def bounded(kind: type[Any]) -> type[Any]:
    """The same kind of connection, whose connecting and sending do not outlast the attempt."""

    def connect(self: Any) -> None:
        self.socket_timeout = self.socket_connect_timeout = attempt.seconds
        kind.connect(self)

    def send_packed_command(self: Any, command: Any, check_health: bool = True) -> None:
        # A server that reads no more fills the socket's buffer, and redis-py would then wait for
        # as long as whoever connected had time.
        if self._sock is not None:
            self._sock.settimeout(attempt.seconds)
        kind.send_packed_command(self, command, check_health)

    def read_response(self: Any, *args: Any, timeout: float | None = None, **options: Any) -> Any:
        # Not by redis-py's own argument, which came with redis-py 8.
        if self._sock is not None:
            self._sock.settimeout(attempt.seconds if timeout is None else timeout)
        return kind.read_response(self, *args, **options)

    own = {
        "connect": connect,
        "send_packed_command": send_packed_command,
        "read_response": read_response,
    }
    return type(f"Bounded{kind.__name__}", (kind,), own)
