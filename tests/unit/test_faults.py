"""Each exception of the redis client becomes the right one of ours, with the right certainty."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis
from redis import exceptions

from flashsale import (
    ConfigurationError,
    FlashSaleError,
    OutcomeUnknown,
    ProtocolError,
    StoreUnavailable,
)
from flashsale.faults import (
    LONGEST_PAUSE_S,
    fault_of,
    give_up,
    lost_connection,
    pause_after,
    refused,
)

LOST = [
    redis.ConnectionError("Connection closed by server."),
    redis.TimeoutError("Timeout reading from socket"),
    ConnectionResetError(104, "reset by peer"),
    BrokenPipeError(32, "broken pipe"),
    TimeoutError(),
    OSError(113, "no route to host"),
    exceptions.MaxConnectionsError("Too many connections"),
]
WAITING = [
    exceptions.BusyLoadingError("LOADING the dataset in memory"),
    redis.ResponseError("BUSY Redis is busy running a script."),
    redis.ResponseError("LOADING Redis is loading the dataset in memory"),
    redis.ResponseError("MASTERDOWN Link with MASTER is down"),
    redis.ResponseError("CLUSTERDOWN The cluster is down"),
    exceptions.ClusterDownError("The cluster is down"),
    exceptions.MasterDownError("Link with MASTER is down"),
    redis.ResponseError("TRYAGAIN Multiple keys request during rehashing of slot"),
    exceptions.TryAgainError("Multiple keys request during rehashing of slot"),
    redis.ResponseError("READONLY You can't write against a read only replica."),
    exceptions.ReadOnlyError("You can't write against a read only replica."),
]
REFUSED: list[tuple[Exception, type[FlashSaleError], str]] = [
    (redis.ResponseError("OOM command not allowed"), StoreUnavailable, "OOM command"),
    (exceptions.OutOfMemoryError("command not allowed"), StoreUnavailable, "OOM command"),
    (redis.ResponseError("MISCONF unable to persist"), StoreUnavailable, "MISCONF"),
    (redis.ResponseError("NOREPLICAS Not enough good replicas"), StoreUnavailable, "NOREPLICAS"),
    (redis.ResponseError("WRONGTYPE Operation against a key"), StoreUnavailable, "WRONGTYPE"),
    (exceptions.ClusterCrossSlotError("Keys in request"), StoreUnavailable, "CROSSSLOT Keys"),
    (redis.AuthenticationError("invalid password"), ConfigurationError, "refuses this user"),
    (exceptions.NoPermissionError("no permission"), ConfigurationError, "refuses this user"),
    (redis.ResponseError("NOAUTH Authentication required."), ConfigurationError, "NOAUTH"),
    (redis.ResponseError("NOPERM no permissions"), ConfigurationError, "NOPERM"),
    (redis.ResponseError("WRONGPASS invalid"), ConfigurationError, "WRONGPASS"),
    (redis.ResponseError("DB index is out of range"), ConfigurationError, "URL: DB index"),
    (
        redis.ResponseError("ERR ACL failure in script: User has no permissions"),
        ConfigurationError,
        "ACL failure",
    ),
    (redis.ResponseError("ERR The ID specified in XADD is equal"), ProtocolError, "XADD"),
    (redis.ResponseError("FLASHSALE_FORMAT the sale is in"), ProtocolError, "FLASHSALE_FORMAT"),
    (ValueError("a bug"), ProtocolError, "unexpected ValueError: a bug"),
]


def name(value: object) -> str | None:
    return f"{type(value).__name__}: {value}"[:40] if isinstance(value, Exception) else None


@pytest.mark.parametrize("sent", [False, True])
@pytest.mark.parametrize("error", LOST, ids=name)
def test_a_lost_connection_is_tried_again_and_unsure_only_if_the_request_was_sent(
    error: Exception, sent: bool
) -> None:
    fault = fault_of(error, sent=sent)
    assert (fault.error, fault.unsure, fault.final) == (error, sent, None)


@pytest.mark.parametrize("sent", [False, True])
@pytest.mark.parametrize("error", WAITING, ids=name)
def test_a_server_that_asks_to_wait_has_applied_nothing(error: Exception, sent: bool) -> None:
    fault = fault_of(error, sent=sent)
    assert (fault.unsure, fault.final) == (False, None)


@pytest.mark.parametrize(("error", "kind", "says"), REFUSED, ids=name)
def test_a_refusal_is_final_and_says_what_the_server_said(
    error: Exception, kind: type[FlashSaleError], says: str
) -> None:
    fault = fault_of(error, sent=True)
    assert type(fault.final) is kind
    assert says in str(fault.final)
    assert fault.unsure is (not isinstance(error, redis.RedisError))


@pytest.mark.parametrize(
    "tail", [" script: on @user_script:216.", " script: 5ab1f, on user_script:7"]
)
def test_where_in_a_script_the_server_met_an_error_is_not_told(tail: str) -> None:
    final = fault_of(redis.ResponseError(f"WRONGTYPE the kind of script{tail}"), sent=True).final
    assert str(final) == "the server refused, not applied: WRONGTYPE the kind of script"


def test_a_refusal_after_a_lost_answer_does_not_say_that_nothing_was_applied() -> None:
    final = StoreUnavailable("the server refused, not applied: OOM command not allowed")
    assert refused(final, unsure=False) is final
    unknown = refused(final, unsure=True)
    assert type(unknown) is OutcomeUnknown
    assert "ask again with the same ids" in str(unknown)
    assert str(final) in str(unknown)


def test_when_time_is_up_the_error_says_whether_it_may_have_been_applied() -> None:
    unknown = give_up("no answer within 250 ms", redis.TimeoutError("slow"), unsure=True)
    assert type(unknown) is OutcomeUnknown
    assert str(unknown) == (
        "no answer within 250 ms; last: slow. It may have been applied: ask again with the same ids"
    )
    unavailable = give_up("no answer within 250 ms", redis.ConnectionError("refused"), unsure=False)
    assert type(unavailable) is StoreUnavailable
    assert str(unavailable) == "no answer within 250 ms; last: refused. It was not applied"


@pytest.mark.parametrize("last", [None, TimeoutError()], ids=repr)
def test_an_attempt_without_a_word_still_makes_a_sentence(last: Exception | None) -> None:
    text = str(give_up("closed", last, unsure=False))
    assert text.startswith("closed")
    assert ": ." not in text


def test_pauses_grow_up_to_a_bound() -> None:
    pauses = [pause_after(attempt) for attempt in range(3_000)]
    assert pauses == sorted(pauses)
    assert 0 < pauses[0] < pauses[1]
    assert pauses[-1] == LONGEST_PAUSE_S


def raised_by(module: str, error: Exception) -> Exception:
    """The exception as code of that module raises it."""
    code: dict[str, Any] = {"__name__": module}
    exec("def fail(error):\n    raise error", code)
    with pytest.raises(type(error)) as caught:
        code["fail"](error)
    return caught.value


@pytest.mark.parametrize("module", ["asyncio.streams", "uvloop.loop", "ssl", "redis.connection"])
@pytest.mark.parametrize(
    "error",
    [
        AttributeError("'NoneType' object has no attribute 'writelines'"),
        TypeError("object of type 'NoneType' has no len()"),
        RuntimeError("unable to perform operation on <TCPTransport closed=True>"),
        RuntimeError("Cannot call write() after write_eof()"),
        ValueError("Read on closed or unwrapped SSL socket."),
        ValueError("file descriptor cannot be a negative integer (-1)"),
        EOFError(),
        asyncio.IncompleteReadError(b"", 1),
    ],
    ids=str,
)
def test_whatever_a_transport_raises_is_a_lost_connection(error: Exception, module: str) -> None:
    lost = lost_connection(raised_by(module, error))
    assert isinstance(lost, redis.ConnectionError)
    assert type(error).__name__ in str(lost)


class Foreign(Exception):
    """A job runner's."""


@pytest.mark.parametrize(
    "error",
    [
        raised_by("celery.app", ValueError("from a signal handler")),
        raised_by("redis.connection", Foreign("thrown into redis-py by its caller")),
        raised_by("asyncio.streams", exceptions.InvalidResponse("no reply of this protocol")),
        raised_by("redis.connection", redis.ResponseError("an error reply")),
        raised_by("redis.connection", StoreUnavailable("ours")),
        raised_by("socket", OSError("judged as it is")),
        ValueError("raised by nobody"),
        raised_by("redis.connection", ValueError("a signal handler's, in the middle of redis-py")),
        raised_by("socket", RuntimeError("the caller's own: too late")),
        raised_by("asyncio.streams", AttributeError("'Job' object has no attribute 'x'")),
        raised_by("gevent.hub", ValueError("the error of a gevent.Timeout: closed")),
    ],
    ids=name,
)
def test_what_comes_from_outside_or_is_judged_by_itself_is_raised_as_it_is(
    error: Exception,
) -> None:
    assert lost_connection(error) is None


def test_what_a_transport_raises_while_it_is_closed_stops_nobody_and_what_is_foreign_does() -> None:
    from flashsale.aio import lines

    class Transport:
        def __init__(self, error: Exception) -> None:
            self.error = error

        def abort(self) -> None:
            raise self.error

    class Connection:
        def __init__(self, error: Exception) -> None:
            self._writer = self
            self.transport = Transport(error)
            self.closed = False

        async def disconnect(self, nowait: bool) -> None:
            self.closed = nowait

    reset = Connection(ConnectionResetError())
    asyncio.run(lines.close(reset))
    assert reset.closed
    with pytest.raises(ZeroDivisionError):
        asyncio.run(lines.close(Connection(ZeroDivisionError())))
