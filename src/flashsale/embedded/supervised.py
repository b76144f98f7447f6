"""The owner's side of `supervisor.py`: start the program, ask it, let go of it."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flashsale.errors import ConfigurationError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

_PROGRAM: Final = Path(__file__).with_name("supervisor.py")
_GRACE_MS: Final = 3_000
_ANSWER_S: Final = _GRACE_MS / 1000 + 7
"""A request may have to wait for the folder or for a server that needs to be killed."""

_running: set[Supervised] = set()
_fork_lock = threading.RLock()
"""Held while a supervisor is made and over every fork, so that no child misses one."""


class Supervised:
    """A supervisor and the one socket that keeps it, and thereby its server, going.

    The server ends when the last copy of the owner's end of that socket is closed. Programs
    started by the owner never get a copy (it is closed on exec); forked children get one
    and close it at once (`_let_go_in_child`).
    """

    def __init__(
        self, command: Sequence[str], directory: Path, *, log: Path, temporary: bool
    ) -> None:
        """Start the program; the command is run in the directory when it is asked to."""
        if not sys.executable:
            raise ConfigurationError("sys.executable is empty: no Python to supervise the server")
        self._folder = directory if temporary else None
        program = [sys.executable, "-I", "-S", str(_PROGRAM)]
        program += ["remove" if temporary else "keep", str(_GRACE_MS), *command]
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(_ANSWER_S)
        with theirs, log.open("ab") as output, _fork_lock:
            try:
                self._process = subprocess.Popen(
                    program,
                    stdin=theirs.fileno(),
                    stdout=output,
                    stderr=output,
                    cwd=directory,
                    # Ctrl-C goes to the terminal's process group: not to this one.
                    start_new_session=True,
                )
            except BaseException:
                self._socket.close()
                raise
            _running.add(self)

    def ask(self, request: bytes) -> str:
        """Send a request of `supervisor.py` and return its answer."""
        answer = b""
        try:
            self._socket.sendall(request)
            while not answer.endswith(b"\n"):
                if not (part := self._socket.recv(4096)):
                    raise StoreUnavailable("the embedded server's supervisor has ended")
                answer += part
        except OSError as error:
            raise StoreUnavailable(f"the embedded server's supervisor: {error}") from error
        line = os.fsdecode(answer).strip()
        if line.startswith("!"):
            raise ConfigurationError(f"the embedded server: {line[1:]}")
        return line

    def close(self) -> None:
        """End the server and its supervisor, and remove the folder if it is temporary."""
        with _fork_lock:
            _running.discard(self)
        if not self._said_bye():
            # It came to harm (or hangs). We are its parent and have not reaped it, so its
            # number still stands for its group, and the server is in that group.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
        self._process.wait()
        self._socket.close()

    def _said_bye(self) -> bool:
        said = b""
        with contextlib.suppress(OSError):
            # Unlike close(), this reaches the supervisor whoever else has a copy.
            self._socket.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            while part := self._socket.recv(4096):
                said += part
        return said.endswith(b"bye\n")

    def let_go(self) -> None:
        """In a forked child: drop what belongs to the parent without touching it."""
        self._socket.close()
        self._process.poll()  # not our child: Popen notes that and will not complain of it


@atexit.register
def _close_all() -> None:
    for supervised in list(_running):
        supervised.close()


def _let_go_in_child() -> None:
    for supervised in _running:
        supervised.let_go()
    _running.clear()
    _fork_lock.release()


os.register_at_fork(
    before=_fork_lock.acquire,
    after_in_parent=_fork_lock.release,
    after_in_child=_let_go_in_child,
)
