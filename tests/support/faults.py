"""Which request meets which fault: the judgement of `support.proxy`, without its sockets."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Literal, TypeAlias

from msgspec import Struct, field

from support.resp import words_of

Ending: TypeAlias = Literal["close", "reset", "hang"]
"""What follows a loss: an orderly close, a reset (RST), or silence on an open connection."""

Only: TypeAlias = "str | tuple[str, ...] | Callable[[list[bytes]], bool] | None"
"""Which requests: of these commands, or those of whose words the function is true.

None means every request but those of a connection's handshake.
"""

HANDSHAKE = frozenset({"AUTH", "CLIENT", "HELLO", "READONLY", "SELECT"})


class Loss(Struct, frozen=True):
    """A request or a reply of which only so many bytes arrive."""

    of: Literal["request", "reply"]
    then: Ending
    after_bytes: int


class Fault(Struct):
    """What may happen to a request, and how many of which requests it is for."""

    only: Only = None
    times: int | None = None
    probability: float = 1.0
    seed: int = 0
    delay_request_s: float = 0.0
    delay_reply_s: float = 0.0
    loss: Loss | None = None
    _random: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        self._random.seed(self.seed)

    def strikes(self, words: list[bytes]) -> bool:
        if self.times == 0 or not self._concerns(words):
            return False
        if self.probability < 1 and self._random.random() >= self.probability:
            return False
        if self.times is not None:
            self.times -= 1
        return True

    def _concerns(self, words: list[bytes]) -> bool:
        if callable(self.only):
            return self.only(words)
        if self.only is None:
            return command(words) not in HANDSHAKE
        names = (self.only,) if isinstance(self.only, str) else self.only
        return command(words) in {name.upper() for name in names}


class Fate(Struct):
    """What is to happen to one request and its reply."""

    delay_request_s: float = 0.0
    delay_reply_s: float = 0.0
    loss: Loss | None = None

    def loses(self, of: Literal["request", "reply"]) -> Loss | None:
        return self.loss if self.loss is not None and self.loss.of == of else None


class Judge:
    """Counts requests and decides their fates. May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._counts: Counter[str] = Counter()
        self._struck = 0

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def judge(self, request: bytes) -> Fate:
        words = words_of(request)
        fate = Fate()
        with self._lock:
            self._counts[command(words)] += 1
            struck = [fault for fault in self._faults if fault.strikes(words)]
            self._struck += bool(struck)
        for fault in struck:
            fate.delay_request_s += fault.delay_request_s
            fate.delay_reply_s += fault.delay_reply_s
            fate.loss = fate.loss or fault.loss
        return fate

    def struck(self) -> int:
        with self._lock:
            return self._struck

    def count(self, commands: tuple[str, ...]) -> int:
        with self._lock:
            names = {name.upper() for name in commands} or self._counts.keys() - HANDSHAKE
            return sum(self._counts[name] for name in names)


def command(words: list[bytes]) -> str:
    """A request's command in capitals."""
    return words[0].decode("ascii", "replace").upper() if words else ""
