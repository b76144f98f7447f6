"""The command line as its users meet it: a process with pipes, or one with a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

from flashsale.connecting import URL_VARIABLE

RUN = "from flashsale.cli import main; main()"


def environment(**changes: str) -> dict[str, str]:
    """Our own, without a server's URL and whatever else would change how output looks."""
    dropped = (URL_VARIABLE, "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return kept | {"PYTHONUNBUFFERED": "1", "TERM": "xterm-256color"} | changes


def start(*args: str, before: str = "", **variables: str) -> subprocess.Popen[str]:
    """Start the command with pipes; `before` is Python that runs first."""
    return subprocess.Popen(
        [sys.executable, "-c", f"{before}\n{RUN}", *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**variables),
    )


def run(*args: str, before: str = "", **variables: str) -> tuple[int, str, str]:
    """Run the command to its end: exit code, standard output, standard error."""
    with start(*args, before=before, **variables) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


class Terminal:
    """A command in a terminal of its own; use `in_terminal`."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self.seen = ""
        self._master = master

    def wait_for(self, text: str, *, times: int = 1, within_s: float = 20) -> None:
        """Read the screen until it has shown the text so often."""
        end = time.monotonic() + within_s
        while self.seen.count(text) < times:
            left = end - time.monotonic()
            assert left > 0, f"{text!r} did not appear {times} times in {self.seen!r}"
            if not self._read(left):
                assert self.seen.count(text) >= times, f"{text!r} never came: {self.seen!r}"

    def type(self, keys: str) -> None:
        """Press keys; "\\x03" is Ctrl-C."""
        os.write(self._master, keys.encode())

    def exit_code(self, within_s: float = 20) -> int:
        """Read to the end and wait."""
        end = time.monotonic() + within_s
        while self._read(max(0.0, end - time.monotonic())):
            assert time.monotonic() < end, f"it did not end; the screen shows {self.seen!r}"
        return self.process.wait(timeout=within_s)

    def _read(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self._master, 65_536)
        except OSError:  # what Linux answers once the other side is closed
            return False
        self.seen += data.decode(errors="replace")
        return bool(data)


@contextmanager
def in_terminal(
    *args: str, columns: int = 100, rows: int = 30, **variables: str
) -> Iterator[Terminal]:
    """Run the command in a terminal of that size, as its foreground process."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    take_terminal = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{take_terminal}\n{RUN}", *args],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment(**variables),
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
        os.close(master)
