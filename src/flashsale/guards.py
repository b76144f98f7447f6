"""A lock for state that stays right whatever interrupts the thread that changes it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from flashsale.errors import ConfigurationError

P = ParamSpec("P")
T = TypeVar("T")


class Guard:
    """Runs work on shared state, one thread (or greenlet) at a time.

    A signal handler, a debugger or a job runner may raise in the middle of any line. The lock is
    free afterwards, and before anybody works on what was left half done, `mend` puts it right: it
    must be able to start anew from whatever it finds. The work itself raises nothing, it returns
    its errors. `torn`: such work is under way, or was interrupted.
    """

    def __init__(self, mend: Callable[[], object] = lambda: None) -> None:
        self._lock: Any = threading.RLock()
        self._mend = mend
        self.torn = False

    def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """What the work returns; ConfigurationError in a handler that interrupted such work."""
        lock = self._lock
        if lock._is_owned():
            raise ConfigurationError("a signal handler must not use the client it interrupted")
        try:
            with lock:
                if self.torn:
                    self._mend()
                self.torn = True
                result = work(*args, **kwargs)
                self.torn = False
                return result
        except BaseException:
            # `with` is safe from signals; what a tracer raises at its end leaves the lock taken.
            if lock._is_owned():
                lock.release()
            raise
