"""What a subject asks of a shell: values, no I/O.

A verb is an `Operation`: a generator that yields one `Step` at a time, is sent what came of it,
and returns its result. Both shells run any operation and know no subject.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeAlias, TypeVar

from msgspec import MsgspecError, Struct

from flashsale.errors import FlashSaleError, ProtocolError, StoreUnavailable
from flashsale.models import OUTCOME_BY_CODE, Outcome
from flashsale.scripts import Script

T = TypeVar("T")

UNREADABLE = (ArithmeticError, AttributeError, LookupError, MsgspecError, TypeError, ValueError)
"""What reading data raises that are not as we write them."""

Reply: TypeAlias = list[Any]


class FromReplica(list[Any]):
    """A reply from a replica: it may be older than what the primary has."""


class Call(Struct, frozen=True):
    """One script call. The shell puts its clock, in milliseconds, before `args`.

    `shared`: it only looks, so callers who ask the same at the same time may share one.
    """

    script: Script
    keys: tuple[str, ...]
    args: tuple[bytes | str | int, ...]
    shared: bool = False


class Pause(Struct, frozen=True):
    """Wait before going on. The reply is False if the caller's time would be over by then."""

    seconds: float


class Send(Struct, frozen=True):
    """Send a call and go on without its reply; what is sent back is a ticket for `Receive`."""

    call: Call


class Receive(Struct, frozen=True):
    """The reply to what was sent for this ticket, or its error, raised here."""

    ticket: Any


class Compute(Struct, frozen=True):
    """Work without I/O that may take seconds, for the shell to do where it keeps nobody waiting."""

    function: Callable[[], Any]


Step: TypeAlias = Call | Pause | Send | Receive | Compute
Operation: TypeAlias = Generator[Step, Any, T]


def expect(reply: object, length: int, script: str) -> Reply:
    """A reply of the right shape, or ProtocolError."""
    if not isinstance(reply, list) or len(reply) != length:
        raise ProtocolError(f"{script} answered {reply!r:.80}, not a list of {length} values")
    return reply


def damaged(key: str, field: str) -> StoreUnavailable:
    """What a reader raises for a field that it cannot read, in the words of lua/lib/damaged."""
    what = f"FLASHSALE_DAMAGED the field {field} of the key {key}"
    return StoreUnavailable(f"not applied: {what} of this sale is lost or unreadable")


@contextmanager
def reading(key: str, field: str) -> Iterator[None]:
    """Name the field where reading it fails."""
    try:
        yield
    except FlashSaleError:
        raise
    except UNREADABLE as error:
        raise damaged(key, field) from error


def outcome_of(code: str, script: str) -> Outcome:
    """The outcome of a letter, or ProtocolError for a letter of a newer release."""
    try:
        return OUTCOME_BY_CODE[code]
    except KeyError:
        raise ProtocolError(f"{script} answered with the unknown outcome {code!r}") from None


def computed(operation: Operation[T]) -> Operation[T]:
    """The same operation with its own work in `Compute` steps, for work that takes seconds."""

    def resume(reply: Any, error: FlashSaleError | None) -> tuple[bool, Any]:
        try:
            return False, operation.send(reply) if error is None else operation.throw(error)
        except StopIteration as end:
            return True, end.value

    reply: Any = None
    error: FlashSaleError | None = None
    try:
        while True:
            ended, value = yield Compute(partial(resume, reply, error))
            if ended:
                result: T = value
                return result
            try:
                reply, error = (yield value), None
            except FlashSaleError as caught:
                reply, error = None, caught
    finally:
        with suppress(ValueError):  # it is running: a cancelled caller leaves a thread to its step
            operation.close()
