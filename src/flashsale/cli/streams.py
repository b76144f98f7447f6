"""Standard output and standard error as every command has them.

What cannot be written (a full device, a pipe that nobody reads, a closed descriptor) is an error of
its own: as an OSError it would be taken for a file's, and Click and Rich end a program whose reader
has gone with exit code 1, which here means "refused".
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Any, TextIO

SIZES = ("COLUMNS", "LINES", "TERMINAL_WIDTH")
"""Variables that say how large the terminal is."""


class OutputLost(Exception):
    """Standard output cannot be written."""


class Output:
    """Standard output; None, as Python has it for a closed descriptor, is one that fails."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = io.StringIO() if stream is None else stream
        self._closed = stream is None

    def write(self, text: str) -> int:
        """Write, or raise OutputLost."""
        if self._closed:
            raise OutputLost("it is closed")
        try:
            return self._stream.write(text)
        except (OSError, ValueError) as error:  # ValueError: it was closed by somebody
            raise OutputLost(getattr(error, "strerror", None) or str(error)) from error

    def flush(self) -> None:
        """Flush, or raise OutputLost."""
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            raise OutputLost(getattr(error, "strerror", None) or str(error)) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Errors:
    """Standard error; what cannot be written there is lost, and the exit code still tells."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = io.StringIO() if stream is None else stream

    def write(self, text: str) -> int:
        """Write if that is possible."""
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush if that is possible."""
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def guard() -> None:
    """Put both in the place of Python's own, which print what their encoding has not as "?"."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):  # closed, or not a real stream
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    sys.stdout, sys.stderr = Output(sys.stdout), Errors(sys.stderr)


def give_up(error: OutputLost) -> None:
    """Say that standard output is lost, and let nothing try again when the interpreter ends."""
    sys.stderr.write(f"flashsale: error: standard output cannot be written: {error}\n")
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def forget_odd_sizes() -> None:
    """A terminal of no columns, or of "wide" ones, is one whose size is not known."""
    for name in SIZES:
        size = os.environ.get(name, "")
        if not (size.isascii() and size.isdigit() and len(size) <= 5 and int(size) > 0):
            os.environ.pop(name, None)
