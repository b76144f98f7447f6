"""What went wrong, in one place: from redis-py's exceptions to ours, and whether to try again.

Trying again is always safe, because every operation carries its own identity. What matters is
what to say when time is up: an attempt that was never sent, or that the server refused, was
not applied; one whose answer was lost may have been.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager

import redis
from msgspec import Struct

from flashsale.errors import (
    ConfigurationError,
    FlashSaleError,
    OutcomeUnknown,
    ProtocolError,
    StoreUnavailable,
)

FIRST_PAUSE_S = 0.005
LONGEST_PAUSE_S = 0.25

JUDGED = (FlashSaleError, redis.RedisError, OSError)
"""What is judged here. Any other exception is somebody else's (a job's time limit, a signal
handler's) and goes through unchanged, whatever it meets on its way. Somebody else's OSError, and
TimeoutError is one, cannot be told from the connection's own."""

ANOTHER_SERVER = (
    redis.exceptions.ReadOnlyError,
    redis.exceptions.BusyLoadingError,
    redis.exceptions.ClusterDownError,  # and MASTERDOWN, which is one
)
"""Replies of a server that is not, or not yet, the one to ask: behind the same address there may be
another one by now, for new connections."""

_BELOW_US = frozenset({"redis", "hiredis", "asyncio", "uvloop", "ssl", "socket"})
"""Packages that move bytes, and fail with whatever comes to hand where a connection is gone."""

_GONE = {
    AttributeError: ("'NoneType'",),
    TypeError: ("'NoneType'",),
    RuntimeError: ("clos", "eof"),
    ValueError: ("clos", "descriptor"),
    EOFError: ("",),
}
"""What they then say, by the classes of Python's own that they use: of None, which stands where
the connection was, or of something closed, or closing."""

_WAIT_AND_RETRY = ("BUSY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "READONLY")
_DAMAGED = ("WRONGTYPE", "FLASHSALE_DAMAGED")
_NOT_APPLIED = ("OOM", "MISCONF", "NOREPLICAS", "CROSSSLOT", "NOGOODSLAVE", *_DAMAGED)
_CUT_OFF = (
    (redis.exceptions.OutOfMemoryError, "OOM"),
    (redis.exceptions.ReadOnlyError, "READONLY"),
    (redis.exceptions.TryAgainError, "TRYAGAIN"),
    (redis.exceptions.ClusterCrossSlotError, "CROSSSLOT"),
    (redis.exceptions.MasterDownError, "MASTERDOWN"),  # is a ClusterDownError
    (redis.exceptions.ClusterDownError, "CLUSTERDOWN"),
)
_SETUP = ("NOAUTH", "NOPERM", "WRONGPASS")
_NOT_ALLOWED = ("ACL failure in script", "can't run this command or subcommand")
"""What a script says whose user lacks a command: Valkey and newer Redis, and Redis 7.0."""

_TORN = "equal or smaller than the target stream top item"
"""XADD's answer when the ledger is ahead of the sequence that the sale stores."""

_NO_DATABASE = "DB index is out of range"
"""The answer to SELECT, with the number at the end of a URL: most clusters have number 0 alone."""

_IN_SCRIPT = re.compile(r" script: (\S+, )?on @?user_script:\d+\.?$")
"""Where in a script a server met an error, at the end of its reply: it tells users nothing."""


class NoneFree(redis.TimeoutError):
    """A call waited for a connection until its time was up; that says nothing of the server."""

    def __init__(self) -> None:
        super().__init__("every connection is in use")


class Fault(Struct, frozen=True):
    """One failed attempt. `final`: raise it now; `unsure`: it may have been applied."""

    error: Exception
    unsure: bool
    final: FlashSaleError | None = None


def lost_connection(error: Exception) -> redis.ConnectionError | None:
    """What a call on a connection raised, as a lost connection, if that is what it means.

    A transport that is closed raises what it likes: AttributeError (asyncio on CPython 3.12 and
    3.13), RuntimeError (uvloop), ValueError. Those are told from an exception that came from
    outside, such as a signal handler's, by who raised them and by what they say (`_GONE`): its own
    may have the same class, and may land anywhere. None: it is to be raised as it is.
    """
    if isinstance(error, JUDGED):
        return None
    words = _GONE.get(type(error), ())
    if not (_is_of(type(error).__module__, _BELOW_US) or any(w in str(error) for w in words)):
        return None
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or not _is_of(trace.tb_frame.f_globals.get("__name__", ""), _BELOW_US):
        return None
    return redis.ConnectionError(f"the connection is gone: {type(error).__name__}: {error}")


def read_only(error: Exception) -> redis.exceptions.ReadOnlyError | None:
    """READONLY, of which a Sentinel's connection makes a lost one, and closes itself."""
    said = error.__context__
    if isinstance(error, redis.ConnectionError) and isinstance(
        said, redis.exceptions.ReadOnlyError
    ):
        return said
    return None


@contextmanager
def quietly() -> Iterator[None]:
    """Close a connection in it: what a transport raises then hides nothing and stops nobody."""
    try:
        yield
    except JUDGED:
        pass
    except Exception as error:
        if lost_connection(error) is None:
            raise


def _is_of(module: str, packages: AbstractSet[str]) -> bool:
    return module.partition(".")[0] in packages


def fault_of(error: Exception, *, sent: bool) -> Fault:
    """Judge the exception of one attempt; `sent`: the request may have reached the server."""
    if isinstance(error, (redis.AuthenticationError, redis.exceptions.NoPermissionError)):
        return Fault(error, False, ConfigurationError(f"the server refuses this user: {error}"))
    if isinstance(error, redis.exceptions.BusyLoadingError):
        return Fault(error, False)
    if isinstance(error, (redis.ConnectionError, redis.TimeoutError, OSError)):
        return Fault(error, sent)
    if isinstance(error, redis.ResponseError):
        _hide_arguments(error)
        return _fault_of_reply(error)
    return Fault(error, sent, ProtocolError(f"unexpected {type(error).__name__}: {error}"))


def _hide_arguments(error: redis.ResponseError) -> None:
    """A server repeats what it was asked and does not know: of AUTH or HELLO, the password."""
    text, found, _ = str(error).partition(", with args beginning with")
    if found:
        error.args = (text,)


def _fault_of_reply(error: redis.ResponseError) -> Fault:
    text = _IN_SCRIPT.sub("", _full_text(error))
    word = text.split(" ", 1)[0]
    if word in _WAIT_AND_RETRY:
        return Fault(error, False)
    if word in _SETUP or any(part in text for part in _NOT_ALLOWED):
        return Fault(error, False, ConfigurationError(f"the server refuses this user: {text}"))
    if _NO_DATABASE in text:
        return Fault(error, False, ConfigurationError(f"the server's URL: {text}"))
    if _TORN in text:
        why = "an entry of the ledger is torn or its sequence was lost: audit says, repair mends"
        return Fault(error, False, StoreUnavailable(f"not applied: {why} ({text})"))
    if "cluster support disabled" in text:
        rule = "client: a client for clusters, and the server is not part of one"
        return Fault(error, False, ConfigurationError(f"{rule}: {text}"))
    if "unknown command" in text.lower():
        rule = "it must know every command of the README's list, HELLO and AUTH"
        return Fault(error, False, ConfigurationError(f"the server: {rule}: {text}"))
    if word in _NOT_APPLIED:
        return Fault(error, False, StoreUnavailable(f"the server refused, not applied: {text}"))
    return Fault(error, False, ProtocolError(f"the server answered: {text}"))


def is_out_of_memory(error: Exception) -> bool:
    """The server refused a script as a whole: its memory is full."""
    return isinstance(error, redis.exceptions.OutOfMemoryError)


def _full_text(error: redis.ResponseError) -> str:
    """The reply with its code word, which redis-py cuts off where it has a class for it."""
    words = [word for kind, word in _CUT_OFF if isinstance(error, kind)]
    return " ".join([*words[:1], str(error)])


def refused(final: FlashSaleError, *, unsure: bool) -> FlashSaleError:
    """What to raise for a refusal, which says nothing of an earlier, unanswered attempt."""
    if unsure:
        return OutcomeUnknown(
            f"an earlier attempt may have been applied: ask again with the same ids; then: {final}"
        )
    return final


def give_up(why: str, last: Exception | None, *, unsure: bool) -> FlashSaleError:
    """What to raise to a caller who is not to wait any longer; `last`: the last failed attempt."""
    if last is not None:
        text = _full_text(last) if isinstance(last, redis.ResponseError) else str(last)
        why += f"; last: {text.rstrip('.') or type(last).__name__}"
    if unsure:
        return OutcomeUnknown(f"{why}. It may have been applied: ask again with the same ids")
    return StoreUnavailable(f"{why}. It was not applied")


def pause_after(attempt: int) -> float:
    """Seconds to wait before attempt number `attempt` + 1."""
    return float(min(FIRST_PAUSE_S * 2 ** min(attempt, 10), LONGEST_PAUSE_S))
