"""From requests to calls and from replies to answers, without a server."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from flashsale import (
    Answer,
    HoldRequest,
    HoldState,
    InvalidRequest,
    Outcome,
    OutcomeUnknown,
    ProtocolError,
    StoreUnavailable,
    batches,
    inventory,
    limits,
)
from flashsale.attempts import Attempts
from flashsale.batches import CHUNK, LONGEST_PAUSE_S, Item, Kind, run_batch
from flashsale.calls import Call, Operation, Pause, Receive, Send
from flashsale.connecting import commands_of
from flashsale.scripts import load_script

NOW, DEADLINE = 1_000, 2_000


def requests(count: int) -> list[HoldRequest]:
    return [HoldRequest(f"buyer-{n}", {"red": 1}, "h") for n in range(count)]


def buyers_of(call: Call) -> list[str]:
    found: list[str] = msgspec.msgpack.decode(call.args[0])  # type: ignore[arg-type]
    return found


def reply(codes: str, details: list[Any] | None = None) -> list[Any]:
    packed = msgspec.msgpack.encode(details) if details else b""
    return [1, NOW, DEADLINE, codes.encode(), packed]


class Server:
    """Answers an operation's calls from a script and notes them."""

    def __init__(self, *replies: Any, patience: int = 10**6) -> None:
        self.replies = list(replies)
        self.calls: list[Call] = []
        self.pauses: list[float] = []
        self.patience = patience

    def run(self, operation: Operation[Any]) -> Any:
        send: Any = None
        error: Exception | None = None
        try:
            while True:
                step = operation.throw(error) if error else operation.send(send)
                send, error = None, None
                if isinstance(step, Receive):
                    answer = step.ticket
                    if isinstance(answer, Exception):
                        error = answer
                    else:
                        send = answer
                    continue
                if isinstance(step, Send):
                    self.calls.append(step.call)
                    send = self.replies.pop(0)
                    continue
                if isinstance(step, Pause):
                    self.pauses.append(step.seconds)
                    send = len(self.pauses) <= self.patience
                    continue
                self.calls.append(step)
                answer = self.replies.pop(0)
                if isinstance(answer, Exception):
                    error = answer
                else:
                    send = answer
        except StopIteration as end:
            return end.value


def single(request: HoldRequest) -> Operation[Any]:
    """A batch of one, as a client's gatherer sends it; its error is raised."""
    item = inventory.hold_item(*msgspec.structs.astuple(request))
    told: list[Any] = []
    yield from run_batch(
        inventory.hold_kind("1111"), [item], lambda numbers, results: told.extend(results)
    )
    (result,) = told
    if isinstance(result, Exception):
        raise result
    return result


def test_one_letter_answers_a_whole_batch() -> None:
    answers = Server(reply("H")).run(inventory.hold_many("1111", requests(3)))
    expected = [
        Answer(Outcome.HELD, "1111", f"buyer-{n}", "h", HoldState.HELD, DEADLINE, False, False, NOW)
        for n in range(3)
    ]
    assert answers == expected


def test_details_tell_what_a_letter_does_not_imply() -> None:
    details = [1, "c", 1_500, 1, 3, "", 0, 0]
    first, second, third = Server(reply("HsQ", details)).run(
        inventory.hold_many("1111", requests(3))
    )
    assert (first.state, first.deadline_ms, first.replayed) == (HoldState.CONFIRMED, 1_500, True)
    assert (second.outcome, second.may_return) == (Outcome.SOLD_OUT, True)
    assert (second.state, second.deadline_ms) == (None, None)
    assert (third.outcome, third.state, third.deadline_ms) == (Outcome.CONFLICT, None, None)


def test_a_bulk_travels_in_chunks_and_keeps_its_order() -> None:
    count = 2 * CHUNK + 10
    server = Server(reply("H"), reply("S"), reply("HS" * 5))
    answers = server.run(inventory.hold_many("1111", requests(count)))
    assert [len(buyers_of(call)) for call in server.calls] == [CHUNK, CHUNK, 10]
    assert [answer.buyer for answer in answers] == [f"buyer-{n}" for n in range(count)]
    assert [answer.outcome.code for answer in answers] == (
        ["H"] * CHUNK + ["S"] * CHUNK + ["H", "S"] * 5
    )


def test_what_a_script_leaves_unjudged_is_sent_again_before_later_calls_of_its_buyers() -> None:
    server = Server(
        reply("H" * 200 + "." * 56, [200, "c", 7, 1]),
        reply("H" * 50 + "." * 6),
        reply("S"),
        reply("L"),
    )
    later = HoldRequest("buyer-255", {"red": 1}, "later")
    answers = server.run(inventory.hold_many("1111", [*requests(CHUNK), later]))
    assert [len(buyers_of(call)) for call in server.calls] == [CHUNK, 56, 6, 1]
    assert buyers_of(server.calls[2]) == [f"buyer-{n}" for n in range(250, 256)]
    assert "".join(answer.outcome.code for answer in answers) == "H" * 250 + "S" * 6 + "L"
    assert [answer.buyer for answer in answers[:CHUNK]] == [f"buyer-{n}" for n in range(CHUNK)]
    assert [answer.replayed for answer in answers] == [n == 199 for n in range(CHUNK + 1)]


def test_unjudged_and_try_again_are_two_things() -> None:
    server = Server(reply("HT.."), reply("ST"), swept(5), reply("HS"))
    answers = server.run(inventory.hold_many("1111", requests(4)))
    assert names_of(server.calls) == ["hold", "hold", "expire", "hold"]
    assert [buyers_of(call) for call in server.calls[1::2]] == [
        ["buyer-2", "buyer-3"],
        ["buyer-1", "buyer-3"],
    ]
    assert [answer.outcome.code for answer in answers] == ["H", "H", "S", "S"]


def test_a_script_that_judges_nothing_breaks_the_protocol() -> None:
    with pytest.raises(ProtocolError, match="unknown outcome"):
        Server(reply(".")).run(single(requests(1)[0]))


def test_what_is_left_unjudged_and_then_lost_is_an_error_in_its_places() -> None:
    server = Server(reply("HH.."), OutcomeUnknown("lost"))
    answers = server.run(inventory.hold_many("1111", requests(4)))
    assert [type(answer) for answer in answers] == [Answer] * 2 + [OutcomeUnknown] * 2


def test_a_bulk_is_cut_by_the_lines_of_its_baskets_too() -> None:
    lines = limits.LINES_MAX
    basket = {f"sku-{n}": 1 for n in range(lines)}
    some = [HoldRequest(f"buyer-{n}", basket, "h") for n in range(100)]
    most = limits.CALL_LINES_MAX // lines
    server = Server(*[reply("H")] * -(-100 // most))
    server.run(inventory.hold_many("1111", some))
    sizes = [len(buyers_of(call)) for call in server.calls]
    assert sum(sizes) == 100
    assert max(sizes) == most


def swept(expired: int, more: int = 0) -> list[Any]:
    return [1, NOW, expired, more, b""]


def names_of(calls: list[Call]) -> list[str]:
    return [call.script.name.removeprefix("inventory/") for call in calls]


def test_only_what_says_try_again_is_asked_again_after_a_sweep() -> None:
    server = Server(reply("HTST"), swept(128), reply("TH"), swept(5), reply("S"))
    answers = server.run(inventory.hold_many("1111", requests(4)))
    assert names_of(server.calls) == ["hold", "expire", "hold", "expire", "hold"]
    asked = [buyers_of(call) for call in server.calls[::2]]
    assert asked == [[f"buyer-{n}" for n in range(4)], ["buyer-1", "buyer-3"], ["buyer-1"]]
    assert [answer.outcome.code for answer in answers] == ["H", "S", "S", "H"]
    assert server.pauses == [0.0, 0.0]


def test_a_sweep_that_finds_nothing_is_followed_by_a_pause_that_grows_up_to_a_bound() -> None:
    rounds = 1_100
    server = Server(*[reply("T"), swept(0)] * rounds, reply("H"))
    answer = server.run(single(requests(1)[0]))
    assert answer.outcome is Outcome.HELD
    waits = server.pauses[1::2]
    assert len(waits) == rounds
    assert waits == sorted(waits)
    assert 0 < waits[0] < waits[1] < waits[-1] == LONGEST_PAUSE_S


def test_a_sweep_that_only_walked_past_paid_holds_goes_on_at_once() -> None:
    server = Server(reply("T"), swept(0, more=1), swept(0, more=1), swept(3, more=1), reply("H"))
    assert server.run(single(requests(1)[0])).outcome is Outcome.HELD
    assert names_of(server.calls) == ["hold", "expire", "expire", "expire", "hold"]
    assert server.pauses == [0.0, 0.0, 0.0]


def test_a_sweep_that_only_walked_past_paid_holds_stops_when_the_time_is_over() -> None:
    server = Server(reply("T"), *[swept(0, more=1)] * 9, patience=4)
    assert server.run(single(requests(1)[0])).outcome is Outcome.TRY_AGAIN
    assert len(server.calls) == 5


def test_a_sweep_that_fails_leaves_the_answer_as_it_is() -> None:
    server = Server(reply("HT"), StoreUnavailable("refused"))
    answers = server.run(inventory.hold_many("1111", requests(2)))
    assert [answer.outcome.code for answer in answers] == ["H", "T"]


@pytest.mark.parametrize(
    "operation",
    [
        lambda: single(requests(1)[0]),
        lambda: inventory.restock("1111", {"red": -1}, "o"),
    ],
    ids=["hold", "restock"],
)
def test_when_the_callers_time_is_over_try_again_is_the_answer(operation: Any) -> None:
    server = Server(*[reply("T"), swept(1)] * 3, reply("T"), patience=3)
    answer = server.run(operation())
    assert answer.outcome is Outcome.TRY_AGAIN
    assert answer.outcome.again
    assert len(server.calls) == 7


@pytest.mark.parametrize("error", [OutcomeUnknown("lost"), StoreUnavailable("refused")])
def test_a_chunk_that_is_lost_is_an_error_in_its_places_and_the_rest_goes_on(
    error: Exception,
) -> None:
    server = Server(reply("H"), error, reply("H"))
    answers = server.run(inventory.hold_many("1111", requests(3 * CHUNK)))
    assert {type(item) for item in answers[:CHUNK]} == {Answer}
    lost = answers[CHUNK : 2 * CHUNK]
    assert {(type(item), str(item)) for item in lost} == {(type(error), str(error))}
    assert len(set(map(id, lost))) == CHUNK  # each its own: raised, they get tracebacks
    assert {type(item) for item in answers[2 * CHUNK :]} == {Answer}


def test_the_error_of_a_single_call_is_raised() -> None:
    with pytest.raises(OutcomeUnknown, match="lost"):
        Server(OutcomeUnknown("lost")).run(single(requests(1)[0]))


def test_a_request_that_is_refused_is_not_sent() -> None:
    server = Server()
    with pytest.raises(InvalidRequest):
        server.run(single(HoldRequest("ann", {"red": 0}, "h")))
    bad = [HoldRequest("a b", {"red": 1}, "h")] * 3
    assert {type(item) for item in server.run(inventory.hold_many("1111", bad))} == {InvalidRequest}
    assert server.calls == []


def test_malformed_is_a_protocol_error_because_this_client_checked_it() -> None:
    with pytest.raises(ProtocolError, match="hold refused what this client holds for well-formed"):
        Server(reply("!")).run(single(requests(1)[0]))
    with pytest.raises(ProtocolError, match="restock refused what this client"):
        Server(reply("!")).run(inventory.restock("1111", {"red": 1}, "o"))
    first, second = Server(reply("H!")).run(inventory.hold_many("1111", requests(2)))
    assert isinstance(first, Answer)
    assert isinstance(second, ProtocolError)


@pytest.mark.parametrize(
    "strange",
    [None, b"OK", [], [1, 2, 3], [*reply("HH"), 0], reply(""), reply("HHH"), reply("%")],
    ids=repr,
)
def test_a_reply_of_another_shape_is_a_protocol_error(strange: Any) -> None:
    for operation in (
        inventory.hold_many("1111", requests(2)),
        inventory.confirm_many("1111", ["1111__ann__h", "1111__bob__h"], "refuse"),
    ):
        answers = Server(strange).run(operation)
        assert {type(item) for item in answers} == {ProtocolError}


def test_marks_travel_only_if_there_are_any() -> None:
    plain, marked = Server(reply("H")), Server(reply("H"))
    plain.run(single(HoldRequest("ann", {"red": 1}, "h")))
    marked.run(single(HoldRequest("ann", {"red": 1}, "h", "app", "n")))
    assert plain.calls[0].args[3] == b""
    assert msgspec.msgpack.decode(marked.calls[0].args[3]) == [["app"], ["n"]]  # type: ignore[arg-type]


def test_a_call_is_sent_without_numbers_which_a_signal_handler_could_interrupt() -> None:
    """hiredis 3.5 crashes the process where a handler raises while it packs a number."""
    call = Call(load_script("inventory/expire"), ("key",), (7, "text", b"bytes"))
    for command in commands_of(call, Attempts.within(1_000)):
        assert {type(part) for part in command} <= {str, bytes}
        assert command[-3:] == ("7", "text", b"bytes")


@pytest.mark.parametrize("times", [1, 2], ids=["from outside", "its own"])
@pytest.mark.parametrize("part", ["checking", "building", "reading"])
def test_what_raises_again_is_the_requests_own_and_what_does_not_goes_to_the_caller(
    part: str, times: int
) -> None:
    left = times

    def perhaps(where: str) -> None:
        nonlocal left
        if where == part and left:
            left -= 1
            raise ValueError("no")

    def build(kind: Kind, items: Any) -> Call:
        perhaps("building")
        return batches.names_call(kind, items)

    def read(kind: Kind, items: Any, reply: object) -> list[Answer]:
        perhaps("reading")
        return batches.read_answers(kind, items, reply)

    def check(request: str) -> Item:
        perhaps("checking")
        return Item(request, "h")

    operation = batches.run_all(Kind("release", "s", (), build, read), ["ann"], check)

    def run() -> Any:
        answer: Any = None
        try:
            while True:
                step = operation.send(answer)
                answer = reply("r") if isinstance(step, Receive) else step
        except StopIteration as end:
            return end.value

    if times == 1:
        with pytest.raises(ValueError, match="no"):
            run()
    else:
        (told,) = run()
        assert isinstance(told, ProtocolError if part == "reading" else InvalidRequest)
