"""The path of every batch: from checked operations to a call, from a reply to answers.

An operation that breaks a rule, or a part of the batch that the store lost, is an error in its
own place and harms no other; answers keep the order of the requests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
from msgspec import Struct

from flashsale import limits
from flashsale.baskets import Lines, encode, pack_baskets
from flashsale.calls import Call, Operation, Pause, expect, outcome_of
from flashsale.errors import FlashSaleError, InvalidRequest, ProtocolError, Rejected
from flashsale.keys import ShardKeys
from flashsale.models import Answer, Hold, HoldState, Outcome
from flashsale.refs import parse_ref
from flashsale.scripts import load_script

T = TypeVar("T")

CHUNK = 256
"""Operations of a bulk call that travel in one script call: larger ones gain nothing in
server time per operation and keep other callers waiting longer."""

LONGEST_PAUSE_S = 0.02
"""Between sweeps that found nothing to do, while a script still says TRY_AGAIN."""

STATES = {state.code: state for state in HoldState}
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


Item = tuple[Target, tuple[Lines, str | int, str | int]]
"""One checked operation: its hold, its lines, and up to two further values."""


# --- who and what -------------------------------------------------------------------------


def target_of(sale: str, hold: str | Answer | Hold, hold_id: str | None) -> Target:
    """The hold meant by a buyer and a hold id, or by an answer, a `Hold` or a ref."""
    if isinstance(hold, (Answer, Hold)):
        if hold_id is not None:
            raise InvalidRequest("hold_id", f"is already in the {type(hold).__name__}")
        found = (hold.sale, hold.buyer, hold.hold_id)
    elif hold_id is not None:
        return Target(limits.check_id("buyer", hold), limits.check_id("hold_id", hold_id))
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


def _batch_call(name: str, keys: ShardKeys, items: Sequence[Item], *extra: str) -> Call:
    buyers = encode([target.buyer for target, _ in items])
    ids = encode([target.hold_id for target, _ in items])
    baskets = pack_baskets([values[0] for _, values in items])
    match name:
        case "hold":
            first = [values[1] for _, values in items]
            second = [values[2] for _, values in items]
            marks = encode([first, second]) if any(first) or any(second) else b""
            return shard_call(name, keys, buyers, ids, baskets, marks)
        case "confirm":
            return shard_call(name, keys, buyers, ids, baskets, *extra)
        case "refund":
            return shard_call(name, keys, buyers, ids, baskets, encode([v[1] for _, v in items]))
        case "extend":
            return shard_call(name, keys, buyers, ids, encode([v[1] for _, v in items]))
        case _:
            return shard_call(name, keys, buyers, ids)


def _read_answers(sale: str, targets: Sequence[Target], reply: object, name: str) -> list[Answer]:
    _, now, deadline, raw_codes, raw_details = expect(reply, 5, name)
    codes, count = raw_codes.decode(), len(targets)
    if len(codes) == 1:
        codes *= count
    if len(codes) != count:
        raise ProtocolError(f"{name} answered {len(codes)} outcomes to {count} operations")
    details: dict[int, tuple[str, int, bool]] = {}
    if raw_details:
        flat = msgspec.msgpack.decode(raw_details)
        for at in range(0, len(flat), 4):
            details[flat[at] - 1] = (flat[at + 1], flat[at + 2], bool(flat[at + 3]))
    answers = []
    for number, (target, code) in enumerate(zip(targets, codes, strict=True)):
        may_return = code == "s"
        outcome = Outcome.SOLD_OUT if may_return else outcome_of(code, name)
        state: HoldState | None
        if number in details:
            letter, due, replayed = details[number]
            state, until = STATES.get(letter), due or None
        else:
            state, replayed = _IMPLIED.get(outcome), False
            until = deadline if outcome is Outcome.HELD else None
        answers.append(
            Answer(
                outcome, sale, target.buyer, target.hold_id, state, until, replayed, may_return, now
            )
        )
    return answers


def run_batch(
    name: str, sale: str, checked: Sequence[Item | FlashSaleError], *extra: str
) -> Operation[list[Answer | FlashSaleError]]:
    """Send what passed its checks, in chunks, and ask again for what says TRY_AGAIN."""
    keys = ShardKeys.of(sale)
    results: list[Answer | FlashSaleError] = [
        item if isinstance(item, FlashSaleError) else InvalidRequest("batch", "was not sent")
        for item in checked
    ]
    waiting = [n for n, item in enumerate(checked) if not isinstance(item, FlashSaleError)]
    attempt = 0
    while waiting:
        for start in range(0, len(waiting), CHUNK):
            part = waiting[start : start + CHUNK]
            items = [item for n in part if not isinstance(item := checked[n], FlashSaleError)]
            try:
                reply = yield _batch_call(name, keys, items, *extra)
                answers = _read_answers(sale, [target for target, _ in items], reply, name)
            except FlashSaleError as error:
                for n in part:
                    results[n] = error
            else:
                for n, answer in zip(part, answers, strict=True):
                    results[n] = _refuse_malformed(answer, name)
        waiting = [n for n in waiting if _is_again(results[n])]
        if waiting and not (yield from sweep_for_retry(keys, attempt)):
            break
        attempt += 1
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


def _is_again(result: Answer | FlashSaleError) -> bool:
    return isinstance(result, Answer) and result.outcome is Outcome.TRY_AGAIN


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


def only(results: list[Answer | FlashSaleError]) -> Answer:
    """The answer of a batch of one; its error is raised."""
    (result,) = results
    if isinstance(result, FlashSaleError):
        raise result
    return result


def perform_once(sale: str, call: Call, name: str) -> Operation[Answer]:
    """A verb on the sale itself, asked again while it says TRY_AGAIN."""
    attempt = 0
    while True:
        reply = yield call
        (answer,) = _read_answers(sale, [Target("", "")], reply, name)
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
