"""The path of every batch: from checked operations to a call, from a reply to answers.

An operation that breaks a rule, or a part of the batch that the store lost, is an error in its
own place and harms no other; answers keep the order of the requests.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

import msgspec
from msgspec import Struct

from flashsale import limits
from flashsale.baskets import WHOLE, Lines, encode
from flashsale.calls import Call, Operation, Pause, Receive, Send, expect, outcome_of
from flashsale.errors import (
    FlashSaleError,
    InvalidRequest,
    ProtocolError,
    Rejected,
    StoreUnavailable,
)
from flashsale.keys import ShardKeys
from flashsale.models import Answer, Hold, HoldState, Outcome
from flashsale.refs import parse_ref
from flashsale.scripts import load_script

T = TypeVar("T")

CHUNK = 256
"""Operations of a bulk call that travel in one script call: larger ones gain nothing in
server time per operation and keep other callers waiting longer."""

VALUES_MAX = 2 * limits.CALL_LINES_MAX
"""Values of their baskets, two a line: a call is bounded by these as well."""

WINDOW = 4
"""Chunks of a bulk call on their way at a time: while the server decides one, the client reads the
last and writes the next."""

LONGEST_PAUSE_S = 0.02
"""Between sweeps that found nothing to do, while a script still says TRY_AGAIN."""

STATES = {state.code: state for state in HoldState}
_ERRORS = (Outcome.MALFORMED, Outcome.MEMORY_FULL)
_NOT_YET = [outcome.code.encode() for outcome in (Outcome.TRY_AGAIN, *_ERRORS)]
_UNJUDGED = b"."
_IMPLIED = {
    Outcome.HELD: HoldState.HELD,
    Outcome.CONFIRMED: HoldState.CONFIRMED,
    Outcome.REFUNDED: HoldState.CONFIRMED,
    Outcome.ALREADY_CONFIRMED: HoldState.CONFIRMED,
    Outcome.RELEASED: HoldState.RELEASED,
    Outcome.EXPIRED: HoldState.EXPIRED,
}


_OF_A_LINE = (Outcome.SOLD_OUT, Outcome.LIMIT_REACHED, Outcome.SKU_UNKNOWN)


class Target(Struct, frozen=True):
    """The hold an operation is about."""

    buyer: str
    hold_id: str


class Item(Struct, frozen=True, gc=False):
    """One checked operation: its hold, its lines, and up to two further values.

    Those are the channel and the note of a hold, the deadline of an extend, a refund's op_id, the
    number, the issue and the expiry of a ticket. `key`: whose holds or places are counted together.
    """

    buyer: str
    hold_id: str
    lines: Lines = WHOLE
    first: str | int = ""
    second: str = ""
    key: str = ""


Result: TypeAlias = Answer | FlashSaleError

Chunk: TypeAlias = tuple[Sequence[int], Sequence[Item]]
"""Operations of one script call, with their places among all."""

Build: TypeAlias = "Callable[[Kind, Sequence[Item]], Call]"
Read: TypeAlias = "Callable[[Kind, Sequence[Item], object], Sequence[Answer]]"

Tell: TypeAlias = Callable[[Sequence[int], Sequence[Result]], None]
"""Takes the ends of operations, named by their places in the batch, as soon as they are known."""


# --- who and what -------------------------------------------------------------------------


def target_of(sale: str, hold: str | Answer | Hold, hold_id: str | None) -> Target:
    """The hold meant by a buyer and a hold id, or by an answer, a `Hold` or a ref."""
    if isinstance(hold, (Answer, Hold)):
        if hold_id is not None:
            raise InvalidRequest("hold_id", f"is already in the {type(hold).__name__}")
        found = (limits.check_id("sale", hold.sale), hold.buyer, hold.hold_id)
    elif hold_id is not None:
        return Target(*limits.check_hold_ids(hold, hold_id))
    elif not isinstance(hold, str):
        rule = "must be the `ref` of an answer, an Answer or a Hold, or a buyer with a hold_id"
        raise InvalidRequest("ref", f"{rule}, not {type(hold).__name__}")
    else:
        found = parse_ref(hold)
    if found[0] != sale:
        raise InvalidRequest("ref", f"is of sale {found[0]!r}, not of {sale!r}")
    return Target(*limits.check_hold_ids(found[1], found[2]))


def check_sequence(field: str, values: Sequence[T]) -> tuple[T, ...]:
    """A bulk call takes a list or a tuple, of any length: its time-out is what bounds it.

    It goes on with what was in it at the beginning, whatever its caller does to it meanwhile.
    """
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
        raise InvalidRequest(field, f"must be a sequence, not {type(values).__name__}")
    return tuple(values)


def shard_call(name: str, keys: ShardKeys, *args: bytes | str | int) -> Call:
    """A call of lua/inventory/NAME with the keys that every mutating verb is given."""
    own = (keys.sale, keys.skus, keys.stock, keys.buyers, keys.ledger, keys.deadlines)
    return Call(load_script(f"inventory/{name}"), own, args)


def names_call(kind: Kind, items: Sequence[Item]) -> Call:
    """The call of a verb that takes holds by their names and nothing else."""
    buyers, ids = names_of(items)
    return shard_call(kind.name, ShardKeys.of(kind.sale), buyers, ids)


def names_of(items: Sequence[Item]) -> tuple[bytes, bytes]:
    """Two arguments: whose holds, and which."""
    return encode([item.buyer for item in items]), encode([item.hold_id for item in items])


def read_answers(kind: Kind, items: Sequence[Item], reply: object) -> list[Answer]:
    """The answers of a batch's reply, in the order of its operations."""
    name, sale = kind.name, kind.sale
    _, now, deadline, raw_codes, raw_details = expect(reply, 5, name)
    codes, count = raw_codes.decode(), len(items)
    if len(codes) == 1:
        codes *= count
    if len(codes) != count:
        raise ProtocolError(f"{name} answered {len(codes)} outcomes to {count} operations")
    plain = {code: _plain(code, name, deadline) for code in set(codes)}
    answers = []
    for item, code in zip(items, codes, strict=True):
        outcome, state, until, may_return, of_a_line = plain[code]
        answer = Answer(
            outcome, sale, item.buyer, item.hold_id, state, until, False, may_return, now
        )
        # Which line of several it is, the reply says; a basket of one has two values, or three.
        if of_a_line and 0 < len(item.lines) < 4:
            answer = msgspec.structs.replace(answer, sku=str(item.lines[0]))
        answers.append(answer)
    if raw_details:
        flat = msgspec.msgpack.decode(raw_details)
        for at in range(0, len(flat), 4):
            number, letter, due, flag = flat[at : at + 4]
            named = {"sku": due} if flag == 2 else {"deadline_ms": due or None}
            answers[number - 1] = msgspec.structs.replace(
                answers[number - 1], state=STATES.get(letter), replayed=flag == 1, **named
            )
    return answers


def _plain(
    code: str, name: str, deadline: int
) -> tuple[Outcome, HoldState | None, int | None, bool, bool]:
    """What a letter without details says, and whether it is said of a line of the basket."""
    may_return = code == "s"
    outcome = Outcome.SOLD_OUT if may_return else outcome_of(code, name)
    until = deadline if outcome is Outcome.HELD else None
    return outcome, _IMPLIED.get(outcome), until, may_return, outcome in _OF_A_LINE


class Kind(Struct, frozen=True):
    """What the operations of one batch have in common: the script, the sale, what else it takes.

    build: puts operations into the script call that carries them; by default what names holds is
    all there is to say. read: their answers out of its reply.
    """

    name: str
    sale: str
    extra: tuple[str, ...] = ()
    build: Build = names_call
    read: Read = read_answers

    def call(self, items: Sequence[Item]) -> Call:
        """The script call that carries a batch."""
        return self.build(self, items)


def run_batch(kind: Kind, items: Sequence[Item], tell: Tell) -> Operation[None]:
    """Send operations in one script call, and tell what comes of them as soon as it is known.

    What says TRY_AGAIN is asked again after a sweep, and told last.
    """
    yield from _run(kind, iter([(range(len(items)), items)]), tell)


def _run(kind: Kind, chunks: Iterator[Chunk], tell: Tell) -> Operation[None]:
    attempt = 0
    while again := (yield from _send_all(kind, chunks, tell)):
        if not (yield from sweep_for_retry(ShardKeys.of(kind.sale), attempt)):
            tell(list(again), [answer for _, answer in again.values()])
            return
        attempt += 1
        rest = [(n, item) for n, (item, _) in again.items()]
        chunks = _chunks(rest, _as_it_is, tell)


def _send_all(
    kind: Kind, chunks: Iterator[Chunk], tell: Tell
) -> Operation[dict[int, tuple[Item, Answer]]]:
    """One pass: what it did not tell, because it is to be asked again.

    Operations of one buyer are judged in their order: a chunk with a buyer of a chunk that is
    still on its way waits for that one. What a script has left unjudged is sent at once, before any
    chunk that may have waited for it.
    """
    again: dict[int, tuple[Item, Answer]] = {}
    sent: deque[tuple[Chunk, set[str], Any]] = deque()

    def receive() -> Operation[None]:
        (numbers, items), buyers, ticket = sent.popleft()
        try:
            reply = yield Receive(ticket)
            judged, reply = judged_of(reply, len(items))
            left = numbers[judged:], items[judged:]
            numbers, items = numbers[:judged], items[:judged]
            answers = _read(kind, items, reply)
        except FlashSaleError as error:
            tell(numbers, _copies(error, len(numbers)))
            return
        take(numbers, items, answers, reply[3])
        if left[1]:
            sent.append((left, buyers, (yield Send(kind.call(left[1])))))

    def take(
        numbers: Sequence[int], items: Sequence[Item], answers: Sequence[Answer], codes: bytes
    ) -> None:
        if not any(code in codes for code in _NOT_YET):
            tell(numbers, answers)
            return
        told: dict[int, Result] = {}
        for n, item, answer in zip(numbers, items, answers, strict=True):
            if answer.outcome is Outcome.TRY_AGAIN:
                again[n] = item, answer
            else:
                told[n] = error_of(answer.outcome, kind.name) or answer
        tell(list(told), list(told.values()))

    for chunk, call in _built(kind, chunks, tell):
        buyers = {item.buyer for item in chunk[1]}
        while len(sent) == WINDOW or any(not buyers.isdisjoint(others) for _, others, _ in sent):
            yield from receive()
        sent.append((chunk, buyers, (yield Send(call))))
    while sent:
        yield from receive()
    return again


def _built(kind: Kind, chunks: Iterator[Chunk], tell: Tell) -> Iterator[tuple[Chunk, Call]]:
    """Chunks with the calls that carry them; what fits into no call is told so, alone."""
    for chunk in chunks:
        rest = [chunk]
        while rest:
            numbers, items = rest.pop()
            try:
                call = kind.call(items)
            except (TypeError, ValueError, OverflowError) as error:
                if not _raises_again(error, kind.call, items):
                    raise
                if len(items) == 1:
                    tell(numbers, [_refused(error)])
                else:
                    half = len(items) // 2
                    rest += [(numbers[half:], items[half:]), (numbers[:half], items[:half])]
            else:
                yield (numbers, items), call


def _as_it_is(item: Item) -> Item:
    return item


def judged_of(reply: Any, count: int) -> tuple[int, Any]:
    """How many of a call's operations were judged, and its reply as if it had been of these only.

    From the first letter for *unjudged* on none was: lua/lib/may_judge.lua.
    """
    codes = reply[3] if isinstance(reply, list) and len(reply) > 3 else b""
    at = codes.find(_UNJUDGED) if isinstance(codes, bytes) else -1
    if at <= 0 or len(codes) != count:
        return count, reply
    return at, [*reply[:3], codes[:at], *reply[4:]]


def _chunks(
    requests: Iterable[tuple[int, T]], check: Callable[[T], Item], tell: Tell
) -> Iterator[Chunk]:
    """Checked requests in chunks for a script call each, bounded by their number and their lines.

    What is wrong with one is told in its place.
    """
    numbers: list[int] = []
    items: list[Item] = []
    room, values, values_max = CHUNK, 0, VALUES_MAX
    for n, request in requests:
        try:
            item = check(request)
        except FlashSaleError as error:
            tell([n], [error])
            continue
        except Exception as error:
            if not _raises_again(error, check, request):
                raise
            tell([n], [_refused(error)])
            continue
        numbers.append(n)
        items.append(item)
        room -= 1
        values += len(item.lines)
        if not room or values >= values_max:
            yield numbers, items
            numbers, items, room, values = [], [], CHUNK, 0
    if items:
        yield numbers, items


def _read(kind: Kind, items: Sequence[Item], reply: object) -> Sequence[Answer]:
    """The answers in a reply, or ProtocolError."""
    try:
        return kind.read(kind, items, reply)
    except FlashSaleError:
        raise
    except Exception as error:
        if not _raises_again(error, kind.read, kind, items, reply):
            raise
        raise ProtocolError(f"{kind.name}'s reply cannot be read: {error!r:.80}") from error


def _raises_again(error: Exception, work: Callable[..., object], *args: object) -> bool:
    """Whether it is the work that raises this: then it does so whenever it is done.

    What comes from outside (a signal handler's exception) does not, and is for the caller alone.
    """
    try:
        work(*args)
    except Exception as again:
        return type(again) is type(error)
    return False


def _copies(error: FlashSaleError, count: int) -> list[FlashSaleError]:
    """One error for each: whoever raises its own adds a traceback to it."""
    copies = [copy.copy(error) for _ in range(count)]
    for own in copies:
        own.__cause__ = error.__cause__
    return copies


def run_all(
    kind: Kind, requests: Sequence[T], check: Callable[[T], Item]
) -> Operation[list[Answer | FlashSaleError]]:
    """A bulk call, in chunks, several on their way at a time; answers in the order of the requests.

    What is wrong with one request is told in its place. Requests are checked chunk by chunk, while
    the server decides those before them.
    """
    results: list[Any] = [None] * len(requests)

    def tell(numbers: Sequence[int], ends: Sequence[Result]) -> None:
        for n, result in zip(numbers, ends, strict=True):
            results[n] = result

    yield from _run(kind, _chunks(enumerate(requests), check, tell), tell)
    return results


def _refused(error: Exception) -> FlashSaleError:
    """Why a request was not sent: what its own code raises when it is read harms no other."""
    refused = InvalidRequest("request", f"cannot be read: {limits.shown(error)}")
    refused.__cause__ = error
    return refused


def sweep_for_retry(keys: ShardKeys, attempt: int) -> Operation[bool]:
    """After TRY_AGAIN: help with the sweep that it waits for. False if there is no time left."""
    expired, more = 0, 1
    while more and not expired:  # a call that finds only paid holds has got further all the same
        if not (yield Pause(0.0)):
            return False
        try:
            reply = yield shard_call("expire", keys, limits.SWEEP_MAX)
            _, _, expired, more, _ = expect(reply, 5, "expire")
        except FlashSaleError:
            return False  # what is known stays true: not applied, try again
    if expired:
        return True
    return bool((yield Pause(min(0.001 * 2 ** min(attempt, 10), LONGEST_PAUSE_S))))


def error_of(outcome: Outcome, name: str) -> FlashSaleError | None:
    """What a caller is told in place of an outcome that is none of the engine's decisions."""
    if outcome is Outcome.MALFORMED:
        return ProtocolError(f"{name} refused what this client holds for well-formed")
    if outcome is Outcome.MEMORY_FULL:
        return StoreUnavailable(f"the server refused, not applied: OOM {name} needs more memory")
    return None


def perform_once(sale: str, call: Call, name: str) -> Operation[Answer]:
    """A verb on the sale itself, asked again while it says TRY_AGAIN."""
    attempt = 0
    while True:
        reply = yield call
        (answer,) = read_answers(Kind(name, sale), [Item("", "")], reply)
        if error := error_of(answer.outcome, name):
            raise error
        if answer.outcome is not Outcome.TRY_AGAIN:
            return answer
        if not (yield from sweep_for_retry(ShardKeys.of(sale), attempt)):
            return answer
        attempt += 1


def reject(sale: str, code: bytes) -> None:
    """Raise the refusal of a script that returns no answer, if there is one."""
    if code:
        raise Rejected(outcome_of(code.decode(), "sale"), f"sale {sale!r}")
