"""The path of every batch: from checked operations to a call, from a reply to answers.

An operation that breaks a rule, or a part of the batch that the store lost, is an error in its
own place and harms no other; answers keep the order of the requests.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import msgspec
from msgspec import Struct

from flashsale import limits
from flashsale.baskets import WHOLE, Lines, encode, pack_baskets
from flashsale.calls import Call, Operation, Pause, Receive, Send, expect, outcome_of
from flashsale.errors import FlashSaleError, InvalidRequest, ProtocolError, Rejected
from flashsale.keys import ShardKeys
from flashsale.models import Answer, Hold, HoldState, Outcome
from flashsale.refs import parse_ref
from flashsale.scripts import load_script

T = TypeVar("T")

CHUNK = 256
"""Operations of a bulk call that travel in one script call: larger ones gain nothing in
server time per operation and keep other callers waiting longer."""

WINDOW = 4
"""Chunks of a bulk call on their way at a time: while the server decides one, the client reads the
last and writes the next."""

LONGEST_PAUSE_S = 0.02
"""Between sweeps that found nothing to do, while a script still says TRY_AGAIN."""

STATES = {state.code: state for state in HoldState}
_NOT_YET = [outcome.code.encode() for outcome in (Outcome.TRY_AGAIN, Outcome.MALFORMED)]
_IMPLIED = {
    Outcome.HELD: HoldState.HELD,
    Outcome.CONFIRMED: HoldState.CONFIRMED,
    Outcome.REFUNDED: HoldState.CONFIRMED,
    Outcome.ALREADY_CONFIRMED: HoldState.CONFIRMED,
    Outcome.RELEASED: HoldState.RELEASED,
    Outcome.EXPIRED: HoldState.EXPIRED,
}


class Target(Struct, frozen=True):
    """The hold an operation is about."""

    buyer: str
    hold_id: str


class Item(Struct, frozen=True, gc=False):
    """One checked operation: its hold, its lines, and up to two further values.

    Those are the channel and the note of a hold, the deadline of an extend, a refund's op_id.
    """

    buyer: str
    hold_id: str
    lines: Lines = WHOLE
    first: str | int = ""
    second: str = ""


Result: TypeAlias = Answer | FlashSaleError

Tell: TypeAlias = Callable[[Sequence[int], Sequence[Result]], None]
"""Takes the ends of operations, named by their places in the batch, as soon as they are known."""


class Kind(Struct, frozen=True):
    """What the operations of one batch have in common: the script, the sale, what else it takes."""

    name: str
    sale: str
    extra: tuple[str, ...] = ()


# --- who and what -------------------------------------------------------------------------


def target_of(sale: str, hold: str | Answer | Hold, hold_id: str | None) -> Target:
    """The hold meant by a buyer and a hold id, or by an answer, a `Hold` or a ref."""
    if isinstance(hold, (Answer, Hold)):
        if hold_id is not None:
            raise InvalidRequest("hold_id", f"is already in the {type(hold).__name__}")
        found = (hold.sale, hold.buyer, hold.hold_id)
    elif hold_id is not None:
        limits.check_hold_ids(hold, hold_id)
        return Target(hold, hold_id)
    elif not isinstance(hold, str):
        rule = "must be the `ref` of an answer, an Answer or a Hold, or a buyer with a hold_id"
        raise InvalidRequest("ref", f"{rule}, not {type(hold).__name__}")
    else:
        found = parse_ref(hold)
    if found[0] != sale:
        raise InvalidRequest("ref", f"is of sale {found[0]!r}, not of {sale!r}")
    return Target(limits.check_id("buyer", found[1]), limits.check_id("hold_id", found[2]))


def check_sequence(field: str, values: object) -> None:
    """A bulk call takes a list or a tuple, of any length: its time-out is what bounds it."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
        raise InvalidRequest(field, f"must be a sequence, not {type(values).__name__}")


def targets_of(sale: str, holds: Sequence[Answer | Hold | str]) -> list[Target | InvalidRequest]:
    """As target_of for a bulk call: what is wrong with one is told in its place."""
    check_sequence("holds", holds)
    found: list[Target | InvalidRequest] = []
    for hold in holds:
        try:
            found.append(target_of(sale, hold, None))
        except InvalidRequest as error:
            found.append(error)
    return found


def shard_call(name: str, keys: ShardKeys, *args: bytes | str | int) -> Call:
    """A call of lua/inventory/NAME with the keys that every mutating verb is given."""
    own = (keys.sale, keys.skus, keys.stock, keys.buyers, keys.ledger, keys.deadlines)
    return Call(load_script(f"inventory/{name}"), own, args)


def batch_call(kind: Kind, items: Sequence[Item]) -> Call:
    """The script call that carries a batch."""
    keys = ShardKeys.of(kind.sale)
    buyers = encode([item.buyer for item in items])
    ids = encode([item.hold_id for item in items])
    match kind.name:
        case "hold":
            baskets = pack_baskets([item.lines for item in items])
            first, second = [item.first for item in items], [item.second for item in items]
            marks = encode([first, second]) if any(first) or any(second) else b""
            return shard_call("hold", keys, buyers, ids, baskets, marks)
        case "confirm":
            baskets = pack_baskets([item.lines for item in items])
            return shard_call("confirm", keys, buyers, ids, baskets, *kind.extra)
        case "refund":
            baskets = pack_baskets([item.lines for item in items])
            op_ids = encode([item.first for item in items])
            return shard_call("refund", keys, buyers, ids, baskets, op_ids)
        case "extend":
            return shard_call("extend", keys, buyers, ids, encode([item.first for item in items]))
        case name:
            return shard_call(name, keys, buyers, ids)


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
        outcome, state, until, may_return = plain[code]
        answers.append(
            Answer(outcome, sale, item.buyer, item.hold_id, state, until, False, may_return, now)
        )
    if raw_details:
        flat = msgspec.msgpack.decode(raw_details)
        for at in range(0, len(flat), 4):
            number, letter, due, replayed = flat[at : at + 4]
            answers[number - 1] = msgspec.structs.replace(
                answers[number - 1],
                state=STATES.get(letter),
                deadline_ms=due or None,
                replayed=bool(replayed),
            )
    return answers


def _plain(
    code: str, name: str, deadline: int
) -> tuple[Outcome, HoldState | None, int | None, bool]:
    """What a letter without details says: outcome, state, deadline, may_return."""
    may_return = code == "s"
    outcome = Outcome.SOLD_OUT if may_return else outcome_of(code, name)
    until = deadline if outcome is Outcome.HELD else None
    return outcome, _IMPLIED.get(outcome), until, may_return


def run_batch(
    kind: Kind, items: Sequence[Item], tell: Tell, chunk_max: int = CHUNK
) -> Operation[None]:
    """Send operations in chunks, several on their way at a time, and tell what comes of them.

    What says TRY_AGAIN is asked again after a sweep, and told last. Operations of one buyer are
    judged in their order: a chunk with a buyer of a chunk still on its way waits for that one.
    """
    waiting: Sequence[int] = range(len(items))
    attempt = 0
    while waiting:
        again = yield from _send_all(kind, items, waiting, tell, chunk_max)
        if again and not (yield from sweep_for_retry(ShardKeys.of(kind.sale), attempt)):
            tell(list(again), list(again.values()))
            return
        waiting, attempt = list(again), attempt + 1


def _send_all(
    kind: Kind, items: Sequence[Item], waiting: Sequence[int], tell: Tell, chunk_max: int
) -> Operation[dict[int, Answer]]:
    """One pass: what it did not tell, because it is to be asked again."""
    again: dict[int, Answer] = {}
    sent: deque[tuple[Sequence[int], list[Item], set[str], Any]] = deque()

    def receive() -> Operation[None]:
        part, chunk, _, ticket = sent.popleft()
        try:
            reply = yield Receive(ticket)
            answers = read_answers(kind, chunk, reply)
        except FlashSaleError as error:
            tell(part, _copies(error, len(part)))
            return
        if not any(code in reply[3] for code in _NOT_YET):
            tell(part, answers)
            return
        told: dict[int, Result] = {}
        for n, answer in zip(part, answers, strict=True):
            if answer.outcome is Outcome.TRY_AGAIN:
                again[n] = answer
            else:
                told[n] = _refuse_malformed(answer, kind.name)
        tell(list(told), list(told.values()))

    for start in range(0, len(waiting), chunk_max):
        part = waiting[start : start + chunk_max]
        chunk = [items[n] for n in part]
        buyers = {item.buyer for item in chunk} if len(waiting) > chunk_max else set()
        while len(sent) == WINDOW or any(not buyers.isdisjoint(others) for _, _, others, _ in sent):
            yield from receive()
        sent.append((part, chunk, buyers, (yield Send(batch_call(kind, chunk)))))
    while sent:
        yield from receive()
    return again


def _copies(error: FlashSaleError, count: int) -> list[FlashSaleError]:
    """One error for each: whoever raises its own adds a traceback to it."""
    copies = [copy.copy(error) for _ in range(count)]
    for own in copies:
        own.__cause__ = error.__cause__
    return copies


def run_all(
    kind: Kind, checked: Sequence[Item | FlashSaleError]
) -> Operation[list[Answer | FlashSaleError]]:
    """A bulk call: what failed its check keeps its error, the rest is sent; answers in order."""
    results: list[Result] = [
        item if isinstance(item, FlashSaleError) else InvalidRequest("batch", "was not sent")
        for item in checked
    ]
    places = [n for n, item in enumerate(checked) if isinstance(item, Item)]
    items = [item for item in checked if isinstance(item, Item)]

    def tell(numbers: Sequence[int], ends: Sequence[Result]) -> None:
        for n, result in zip(numbers, ends, strict=True):
            results[places[n]] = result

    yield from run_batch(kind, items, tell)
    return results


def sweep_for_retry(keys: ShardKeys, attempt: int) -> Operation[bool]:
    """After TRY_AGAIN: help with the sweep that it waits for. False if there is no time left."""
    if not (yield Pause(0.0)):
        return False
    try:
        reply = yield shard_call("expire", keys, limits.SWEEP_MAX)
        _, _, expired, _, _ = expect(reply, 5, "expire")
    except FlashSaleError:
        return False  # what is known stays true: not applied, try again
    if expired:
        return True
    return bool((yield Pause(min(0.001 * 2 ** min(attempt, 10), LONGEST_PAUSE_S))))


def _refuse_malformed(answer: Answer, name: str) -> Answer | FlashSaleError:
    if answer.outcome is Outcome.MALFORMED:
        return ProtocolError(f"{name} refused what this client holds for well-formed")
    return answer


def check_all(requests: Sequence[T], check: Callable[[T], Item]) -> list[Item | FlashSaleError]:
    """Check every request of a bulk call; what is wrong with one is told in its place."""
    check_sequence("requests", requests)
    checked: list[Item | FlashSaleError] = []
    for request in requests:
        try:
            checked.append(check(request))
        except InvalidRequest as error:
            checked.append(error)
    return checked


def perform_once(sale: str, call: Call, name: str) -> Operation[Answer]:
    """A verb on the sale itself, asked again while it says TRY_AGAIN."""
    attempt = 0
    while True:
        reply = yield call
        (answer,) = read_answers(Kind(name, sale), [Item("", "")], reply)
        if answer.outcome is Outcome.MALFORMED:
            raise ProtocolError(f"{name} refused what this client holds for well-formed")
        if answer.outcome is not Outcome.TRY_AGAIN:
            return answer
        if not (yield from sweep_for_retry(ShardKeys.of(sale), attempt)):
            return answer
        attempt += 1


def reject(sale: str, code: bytes) -> None:
    """Raise the refusal of a script that returns no answer, if there is one."""
    if code:
        raise Rejected(outcome_of(code.decode(), "sale"), f"sale {sale!r}")
