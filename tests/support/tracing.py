"""Exceptions from outside, at any line: as a signal handler, a debugger, a job runner raise."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import redis

import flashsale

PLACES = tuple(str(Path(str(module.__file__)).parent) for module in (flashsale, redis))

_TRIPS = sys.version_info < (3, 12)
"""CPython 3.11 now and then calls a wrong object in a generator expression that is traced while
other threads run; 3.12 and 3.13 trace in another way."""


def is_cpythons(error: TypeError) -> bool:
    """Whether it is what 3.11's interpreter trips over now and then in other places, too."""
    return _TRIPS and str(error) == "'traceback' object is not callable"


def is_final(frame: FrameType | None) -> bool:
    """Whether it runs for a `__del__`: whenever memory is cleared, its exceptions reach nobody."""
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None


class Foreign(Exception):
    """Nobody's but the caller's in whose thread it was raised."""


class Killed(BaseException):
    """The same, of the kind that ends a thread or a greenlet."""


class Tracer:
    """Counts the lines that a call runs through in some folders, and raises at one of them.

    strike: the line, from 1 on; 0: none. Works in the thread that uses it as a context manager.
    """

    def __init__(
        self,
        strike: int = 0,
        places: tuple[str, ...] = PLACES,
        kind: type[BaseException] = Foreign,
    ) -> None:
        self.strike, self.places, self.kind = strike, places, kind
        self.lines = 0
        self.where = ""

    def __enter__(self) -> Tracer:
        sys.settrace(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _call(self, frame: FrameType, event: str, arg: Any) -> Callable[..., Any] | None:
        code = frame.f_code
        if _TRIPS and code.co_name == "<genexpr>":
            return None  # the line that runs through it is traced
        if not code.co_filename.startswith(self.places) or is_final(frame):
            return None
        return self._line

    def _line(self, frame: FrameType, event: str, arg: Any) -> Callable[..., Any]:
        if event == "line":
            self.lines += 1
            if self.lines == self.strike:
                self.where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                raise self.kind(self.where)
        return self._line


def at_every_line(
    work: Callable[[], object],
    check: Callable[[Tracer], object],
    prepare: Callable[[], object] = lambda: None,
    places: tuple[str, ...] = PLACES,
    most: int = 1_000_000,
) -> int:
    """Run the work anew for each of its lines, interrupted there; how many lines that were."""
    for strike in range(1, most + 1):
        prepare()
        tracer = Tracer(strike, places)
        try:
            with tracer:
                work()
        except Foreign:
            pass
        except TypeError as error:
            if not is_cpythons(error):
                raise
        check(tracer)
        if not tracer.where:
            return tracer.lines
    return most
