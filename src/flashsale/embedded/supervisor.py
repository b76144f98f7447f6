"""The program that stands between `flashsale.embedded` and its server.

It is the server's parent, so that nobody else needs to signal a process by a number that
might by then belong to another one, and so that the server cannot outlive its owner: an
owner killed with SIGKILL has no last word, but the kernel closes its end of the socket
pair, and that is what this program waits for. Nothing here is peculiar to Linux.

It is run by path with `python -I -S` and imports little, because every start of a server
waits for it. Never import it from the package.

    supervisor.py  keep|remove  GRACE_MS  BINARY  ARGUMENT…

The working directory is the server's folder, standard output and error its log. Standard
input is a socket on which the owner sends letters and reads a line for each:

    s  start the server      the server's pid
    t  terminate, then kill  its exit code
    k  kill                  its exit code
    ?  how is it             "running" or its exit code

A line that starts with "!" says why it could not be done. At the end of the input, or on
SIGTERM, SIGINT or SIGHUP, the server is terminated (`keep`) or killed and its folder removed
(`remove`). The last line is "bye": without it the owner knows that this program came to harm.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import sys
import time

_OWNER = 0
_WAIT_FOR_FOLDER_S = 2.0
_POLL_S = 0.002


class _Server:
    def __init__(self, command: list[str], grace_s: float) -> None:
        self.exit_code = 0
        self._command = command
        self._grace_s = grace_s
        self._pid = 0

    def start(self) -> int:
        self.terminate()
        # The owner's socket is closed on exec, but standard input must not stay without a file.
        stdin = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
        path = self._command[0]
        self._pid = os.posix_spawn(path, self._command, os.environ, file_actions=[stdin])
        return self._pid

    def running(self) -> bool:
        """Whether it runs; one that ended by itself is reaped here, and only here."""
        if self._pid:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._pid = 0
                self.exit_code = os.waitstatus_to_exitcode(status)
        return bool(self._pid)

    def terminate(self) -> None:
        if self.running():
            os.kill(self._pid, signal.SIGTERM)
            # A stopped process (SIGSTOP) would see the request only when it goes on.
            os.kill(self._pid, signal.SIGCONT)
            end = time.monotonic() + self._grace_s
            while self.running() and time.monotonic() < end:
                time.sleep(_POLL_S)
        self.kill()

    def kill(self) -> None:
        if self.running():
            os.kill(self._pid, signal.SIGKILL)
            while self.running():
                time.sleep(_POLL_S)


def main(removal: str, grace_ms: str, *command: str) -> None:
    """Serve the owner until it is gone, then leave nothing behind."""
    wakeup = _watch_signals()
    server = _Server(list(command), int(grace_ms) / 1000)
    try:
        _serve(server, wakeup)
    except (BrokenPipeError, ConnectionResetError):
        pass  # the owner died between its request and our reply
    finally:
        if removal == "remove":
            server.kill()  # a server whose data go with it has nothing to finish
            _remove_folder()
        else:
            server.terminate()
    with contextlib.suppress(OSError):
        _reply("bye")


def _serve(server: _Server, wakeup: int) -> None:
    ours = _lock_folder()
    while request := _next_request(server, wakeup):
        _reply(_obey(server, request) if ours else "!another embedded server runs in this folder")


def _obey(server: _Server, request: bytes) -> str:
    if request == b"s":
        try:
            return str(server.start())
        except OSError as error:
            return f"!{error}"
    if request == b"t":
        server.terminate()
    elif request == b"k":
        server.kill()
    return "running" if server.running() else str(server.exit_code)


def _reply(line: str) -> None:
    os.write(_OWNER, f"{line}\n".encode(errors="surrogateescape"))


def _next_request(server: _Server, wakeup: int) -> bytes:
    """One letter; b"" if the owner is gone or a signal asks for the end."""
    while True:
        readable, _, _ = select.select([_OWNER, wakeup], [], [])
        if wakeup in readable:
            if set(os.read(wakeup, 512)) - {signal.SIGCHLD}:
                return b""
            server.running()
        if _OWNER in readable:
            return os.read(_OWNER, 1)


def _watch_signals() -> int:
    """Turn signals into bytes on a pipe, so that none interrupts a step half done."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    # A thread of the owner may have started us with signals blocked.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return reading


def _lock_folder() -> bool:
    """Claim the folder: two servers in one would destroy each other's append-only file.

    The server inherits the lock, so that it also covers one whose supervisor was killed.
    The wait is for a predecessor that is just ending, as when a service is reloaded.
    """
    folder = os.open(".", os.O_RDONLY)
    os.set_inheritable(folder, True)
    end = time.monotonic() + _WAIT_FOR_FOLDER_S
    while True:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        except OSError:
            return True  # a file system without locks
        else:
            return True


def _remove_folder() -> None:
    import shutil  # not at the top: a third of the time it takes to start

    folder = os.getcwd()
    os.chdir("/")
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):
            return
        time.sleep(0.05)  # a fork of the server may still write


if __name__ == "__main__":
    main(*sys.argv[1:])
