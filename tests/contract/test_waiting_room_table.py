"""The table of the waiting room's verbs in lua/README.md, cell by cell, and their first matches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
import redis

from flashsale import (
    ConfigurationError,
    InvalidRequest,
    JoinRequest,
    Key,
    Outcome,
    Outlook,
    PlaceAnswer,
    ProtocolError,
    Rejected,
    RoomState,
    WaitingRoom,
    limits,
    shuffle,
    waiting_room,
)
from flashsale.batches import perform_once
from flashsale.keys import places_key
from support.cues import KEY
from support.lab import T0, Lab
from support.queues import AT_ONCE, ENDS, SLOT, TTL, Hall
from support.shells import connect

encode = msgspec.msgpack.encode
OPENING = T0 + 60_000
JUMPED = T0 - 120_000
"""A caller's clock so far behind that a server at T0 is not believed."""


def outcomes(answers: Any) -> list[Outcome]:
    return [answer.outcome for answer in answers]


@contextmanager
def refused(outcome: Outcome) -> Iterator[None]:
    with pytest.raises(Rejected) as error:
        yield
    assert error.value.outcome is outcome


@contextmanager
def nothing_written(hall: Hall) -> Iterator[None]:
    before = hall.everything()
    yield
    assert hall.everything() == before


def letters(hall: Hall, name: str, *args: Any, **more: Any) -> str:
    """What a script answers to arguments of our own: its letters, or its one code."""
    reply = hall.lab.eval(f"waiting_room/{name}", hall.sale, *args, **more)
    code: bytes = reply[3] if len(reply) == 5 else reply[2]
    return code.decode()


def join_raw(hall: Hall, *buyers: str, **more: Any) -> str:
    order = encode([[len(buyers)], list(range(1, len(buyers) + 1))])
    return letters(hall, "join", encode(buyers), order, b"", **more)


def admit_raw(hall: Hall, *buyers: str, **more: Any) -> str:
    none = [0] * len(buyers)
    where = encode([1] * len(buyers))
    return letters(hall, "admit", encode(buyers), where, encode([none, none, none]), **more)


# --- open ---------------------------------------------------------------------------------


def test_an_opened_room_says_what_was_asked_for_and_commits_to_its_seed(lab: Lab) -> None:
    hall = Hall(lab, opens_at_ms=OPENING)
    view = hall.look()
    seed = shuffle.make_seed(KEY.secret, hall.sale.id)
    assert (view.sale, view.room, view.at_ms) == (hall.sale.id, hall.room, T0)
    assert (view.state, view.rate_per_s, view.closed) == (RoomState.RUNNING, AT_ONCE, None)
    assert (view.joined, view.serving, view.over, view.present, view.seed) == (0, 0, 0, None, "")
    assert (view.key, view.commitment) == (KEY.id, shuffle.commitment_of(seed, hall.sale.id))
    assert (view.available, view.set_aside, view.held, view.sold) == (20, 0, 0, 0)
    assert not any(seed.encode() in value for value in lab.raw.hgetall(hall_key(hall)).values())


def hall_key(hall: Hall) -> str:
    return hall.lab.keys(hall.sale).room


@pytest.mark.parametrize("opens_at_ms", [None, OPENING])
def test_opening_the_same_room_again_is_a_no_op_at_any_time(
    lab: Lab, opens_at_ms: int | None
) -> None:
    hall = Hall(lab, opens_at_ms=opens_at_ms)
    hall.crowd(3)
    for at_ms in (T0, OPENING, OPENING + TTL):
        hall.look(at_ms)
        with nothing_written(hall):
            answer = lab.shop.perform(
                perform_once(hall.sale.id, opening_call(hall, hall.room), "open")
            )
        assert (answer.outcome, answer.replayed) == (Outcome.OPENED, True)
        assert hall.queue.open(hall.room).room == hall.room


def opening_call(hall: Hall, room: WaitingRoom) -> Any:
    return next(waiting_room._open(hall.sale.id, room, KEY))


def test_another_definition_is_a_conflict_and_changes_nothing(lab: Lab) -> None:
    hall = Hall(lab)
    changed = msgspec.structs.replace(hall.room, rate_per_s=2.0)
    for _ in range(2):
        with nothing_written(hall), refused(Outcome.CONFLICT):
            hall.queue.open(changed)
        hall.sale.end()  # what is known comes before what the sale is


def test_no_room_is_opened_in_a_sale_that_has_ended_or_whose_clock_jumped(lab: Lab) -> None:
    sale = lab.open()
    room = WaitingRoom(rate_per_s=1)
    call = next(waiting_room._open(sale.id, room, KEY))
    long_ago = 1_000
    lab.set_time(sale, long_ago)
    assert lab.run(call, caller_ms=long_ago)[3] == b"J"
    sale.end()
    lab.set_time(sale, long_ago)
    assert lab.run(call, caller_ms=long_ago)[3] == b"Z"  # the end comes before the clock
    lab.set_time(sale, T0)
    with refused(Outcome.ENDED):
        sale.queue.open(room)
    assert lab.raw.exists(lab.keys(sale).room) == 0


def test_no_room_is_opened_in_a_sale_that_is_not_there_or_purged(lab: Lab) -> None:
    room = WaitingRoom(rate_per_s=1)
    with refused(Outcome.SALE_UNKNOWN):
        lab.shop.sale(lab.new_id()).queue.open(room)
    sale = lab.open()
    sale.end()
    sale.purge()
    with refused(Outcome.PURGED):
        sale.queue.open(room)
    call = next(waiting_room._open(sale.id, room, KEY))
    assert lab.run(call, caller_ms=T0)[3] == b"p"


def test_a_room_may_be_opened_while_its_sale_is_paused(lab: Lab) -> None:
    sale = lab.open()
    sale.pause()
    assert sale.queue.open(WaitingRoom(rate_per_s=1)).closed is Outcome.PAUSED


@pytest.mark.parametrize("key", ["admitted", "vacant", "places:0", "places:3"])
def test_no_room_is_opened_over_the_remains_of_another(lab: Lab, key: str) -> None:
    sale = lab.open()
    place = f"{lab.keys(sale).sale.rpartition(':')[0]}:{key}"
    lab.raw.hset(place, "ann", "7:1:1:0" if key == "admitted" else 7)
    with pytest.raises(ProtocolError, match="FLASHSALE_REMAINS keys of this waiting room"):
        sale.queue.open(WaitingRoom(rate_per_s=1, places_max=4 * limits.PLACES_PER_HASH))
    assert lab.raw.exists(lab.keys(sale).room) == 0


@pytest.mark.parametrize("key", ["room", "admitted", "vacant", "caps"])
def test_no_sale_is_opened_over_the_remains_of_a_room(lab: Lab, key: str) -> None:
    sale = lab.open()
    definition, keys = sale.snapshot().sale, lab.keys(sale)
    lab.raw.delete(keys.sale, keys.skus, keys.stock, keys.ledger)
    lab.raw.hset(getattr(keys, key), "some", "thing")
    with pytest.raises(ProtocolError, match="FLASHSALE_REMAINS keys of this sale exist without"):
        lab.shop.open(definition)
    assert lab.raw.exists(keys.sale) == 0


def test_tickets_alone_are_not_enough_for_a_sale_with_admission(lab: Lab) -> None:
    sale = lab.open(admission=True)
    room = WaitingRoom(rate_per_s=1, one_place=False)
    with pytest.raises(InvalidRequest, match="one_place: must be True: a sale with admission"):
        sale.queue.open(room)
    call = next(waiting_room._open(sale.id, room, KEY))
    assert lab.run(call, caller_ms=T0)[3] == b"!"
    assert lab.raw.exists(lab.keys(sale).room) == 0
    assert lab.open().queue.open(room).room == room  # of any other sale they are


def test_a_room_needs_a_key_in_every_process_that_gives_tickets(
    lab: Lab, server_url: str, request: pytest.FixtureRequest
) -> None:
    hall = Hall(lab)
    shell = request.node.callspec.params["shop"]
    with connect(shell, server_url) as keyless:
        queue = keyless.sale(hall.sale.id).queue
        for call in (
            lambda: queue.open(hall.room),
            lambda: queue.join("ann"),
            lambda: queue.join_many([JoinRequest("ann")]),
            lambda: queue.position("ann", "x"),
        ):
            with pytest.raises(ConfigurationError, match="at least one Key is needed"):
                call()
        assert queue.view().joined == 0  # to look needs none, nor to let in by name
        assert queue.admit("ann").outcome is Outcome.NOT_JOINED


# --- join ---------------------------------------------------------------------------------


@pytest.mark.parametrize("opens_at_ms", [None, OPENING])
def test_a_buyer_has_one_place_however_often_and_from_wherever_they_join(
    lab: Lab, opens_at_ms: int | None
) -> None:
    hall = Hall(lab, opens_at_ms=opens_at_ms)
    first = hall.queue.join("ann")
    assert (first.outcome, first.number, first.replayed) == (Outcome.JOINED, 1, False)
    again = [hall.queue.join("ann"), *hall.join("ann", "bob", "ann", "bob")]
    assert [(answer.number, answer.replayed) for answer in again] == [
        (1, True), (1, True), (2, False), (1, True), (2, True),
    ]  # fmt: skip
    assert hall.fields("joined") == [2]


def test_numbers_follow_each_other_in_the_order_of_the_requests(lab: Lab) -> None:
    hall = Hall(lab)
    answers = hall.crowd(256)
    assert [answer.number for answer in answers] == list(range(1, 257))
    assert [answer.buyer for answer in answers] == [f"b{n}" for n in range(1, 257)]
    assert [answer.place for answer in answers] == list(range(1, 257))


def test_several_script_calls_of_one_bulk_call_count_as_coming_at_the_same_time(lab: Lab) -> None:
    hall = Hall(lab)
    answers = hall.crowd(700)
    numbers = [answer.number or 0 for answer in answers]
    assert sorted(numbers) == list(range(1, 701))
    for start in range(0, 700, 256):  # within each of them the order is kept
        chunk = numbers[start : start + 256]
        assert chunk == list(range(chunk[0], chunk[0] + len(chunk)))


def test_places_are_spread_over_the_hashes_by_the_name_and_found_again(lab: Lab) -> None:
    hall = Hall(lab, places_max=3 * limits.PLACES_PER_HASH, key_places_max=100)
    hall.join(*(f"b{n}" for n in range(60)), key="phone")
    sizes = [lab.raw.hlen(places_key(hall.sale.id, number)) for number in range(3)]
    assert sum(sizes) == 61
    assert min(sizes) > 5
    again = hall.join(*(f"b{n}" for n in range(60)))
    assert all(answer.replayed for answer in again)
    assert hall.queue.leave("b7").replayed is False
    assert hall.queue.admit("b7").outcome is Outcome.NOT_JOINED
    assert hall.queue.admit("b8").outcome in (Outcome.ADMITTED, Outcome.WAITING)


def test_one_joins_while_the_sale_is_not_open_and_while_it_or_the_room_is_paused(lab: Lab) -> None:
    hall = Hall(lab, sale={"opens_at_ms": OPENING})
    assert hall.queue.join("ann").outcome is Outcome.JOINED
    hall.sale.pause()
    assert hall.queue.join("bob").outcome is Outcome.JOINED
    hall.sale.resume()
    hall.queue.pause()
    assert hall.queue.join("cyd").outcome is Outcome.JOINED
    assert hall.fields("joined", "serving") == [3, 0]


def test_a_place_whose_turn_is_over_is_replaced_by_a_new_number_at_the_end(lab: Lab) -> None:
    hall = Hall(lab)
    hall.call("ann", "bob")
    hall.look(ENDS - 1)
    (still,) = hall.join("ann")
    assert (still.number, still.outcome, still.replayed) == (1, Outcome.CALLED, True)
    hall.look(ENDS)
    (anew,) = hall.join("ann")
    assert (anew.number, anew.outcome, anew.replayed) == (3, Outcome.JOINED, False)
    (twice, bob) = hall.join("ann", "bob")
    assert (twice.number, twice.replayed) == (3, True)
    assert (bob.number, bob.replayed) == (4, False)


def test_of_those_who_were_there_at_the_opening_the_place_says_whose_turn_is_over(
    lab: Lab,
) -> None:
    hall = Hall(lab, {"red": 3}, opens_at_ms=OPENING)
    hall.crowd(6)
    hall.look(OPENING)
    hall.look(OPENING + 1)
    hall.look(OPENING + SLOT + TTL)  # the first three places are over, and three more are called
    assert hall.fields("over", "serving") == [3, 6]
    answers = hall.join(*(f"b{n}" for n in range(1, 7)))
    for number, answer in enumerate(answers, 1):
        assert answer.replayed is (hall.place_of(number) > 3)
    assert sorted(a.number or 0 for a in answers if not a.replayed) == [7, 8, 9]


def test_a_full_room_gives_no_number_and_tells_those_who_have_one(lab: Lab) -> None:
    hall = Hall(lab, places_max=3)
    answers = hall.queue.join_many([JoinRequest(buyer) for buyer in ("a", "b", "c", "d", "a")])
    full = Outcome.ROOM_FULL
    assert outcomes(answers) == [Outcome.JOINED] * 3 + [full, Outcome.JOINED]
    with nothing_written(hall):
        answer = hall.queue.join("e")
        assert hall.queue.join("b").replayed
    assert answer == PlaceAnswer(full, hall.sale.id, "e", at_ms=T0)
    assert hall.fields("joined") == [3]


def test_a_key_has_so_many_places_and_they_are_never_counted_back(lab: Lab) -> None:
    hall = Hall(lab, key_places_max=2)
    assert hall.queue.join("a", key="phone").outcome is Outcome.JOINED
    answers = hall.queue.join_many(
        [JoinRequest(buyer, "phone") for buyer in ("b", "a", "c")]
        + [JoinRequest("d", "other"), JoinRequest("e")]
    )
    limit = Outcome.KEY_LIMIT
    assert outcomes(answers) == [Outcome.JOINED, Outcome.JOINED, limit, *[Outcome.JOINED] * 2]
    hall.look()
    hall.queue.leave("a")
    with nothing_written(hall):
        assert hall.queue.join("a", key="phone").outcome is limit
    assert hall.queue.join("a").outcome is Outcome.JOINED  # without a key nothing is counted
    assert lab.raw.hget(places_key(hall.sale.id, 0), ":phone") == b"2"


def test_keys_are_not_counted_in_a_room_that_does_not_say_so(lab: Lab) -> None:
    hall = Hall(lab)
    assert {answer.outcome for answer in hall.join("a", "b", "c", key="phone")} == {Outcome.JOINED}
    assert lab.raw.hlen(places_key(hall.sale.id, 0)) == 3


def test_of_several_reasons_to_refuse_a_join_the_first_of_the_order_answers(lab: Lab) -> None:
    hall = Hall(lab, sale={"closes_at_ms": T0 + 5_000}, places_max=2, key_places_max=1)
    hall.join("ann", "bob", key="")
    keyed = encode([["k"], [1]])
    one = encode([[1], [1]])

    def told(buyer: str, marks: bytes = keyed, **more: Any) -> str:
        with nothing_written(hall):
            return letters(hall, "join", encode([buyer]), one, marks, **more)

    lab.raw.hset(places_key(hall.sale.id, 0), ":k", 1)
    assert told("cyd") == "0"  # ROOM_FULL before KEY_LIMIT
    assert told("ann") == "1"  # the place there is before both
    lab.raw.hset(hall_key(hall), "joined", 1)
    assert told("cyd") == "+"
    hall.at(T0 + 5_000)
    assert told("ann") == "K"
    jump(hall)
    lab.raw.hset(hall_key(hall), "joined", 2)
    assert told("ann", caller_ms=1_000) == "J"
    hall.sale.end()
    jump(hall)
    assert told("ann", caller_ms=1_000) == "Z"
    assert told("a b", caller_ms=1_000) == "!"
    hall.at(T0 + 5_000)
    assert told("ann") == "Z"  # ENDED before CLOSED


def jump(hall: Hall) -> None:
    """Let the sale's last time be long ago, so that with a caller of then the clock has jumped."""
    hall.at(1_000)


@pytest.mark.parametrize(("at_ms", "outcome"), [(-1, Outcome.JOINED), (0, Outcome.CLOSED)])
def test_the_closing_time_of_the_sale_closes_the_room_to_the_millisecond(
    lab: Lab, at_ms: int, outcome: Outcome
) -> None:
    hall = Hall(lab, sale={"closes_at_ms": OPENING})
    hall.at(OPENING + at_ms)
    answer = hall.queue.join("ann")
    assert answer.outcome is outcome
    assert (answer.ticket == "") is (outcome is Outcome.CLOSED)


def test_nobody_joins_an_ended_sale(lab: Lab) -> None:
    hall = Hall(lab)
    hall.join("ann")
    hall.sale.end()
    with nothing_written(hall):
        assert hall.queue.join("ann").outcome is Outcome.ENDED
        assert hall.queue.join("bob").outcome is Outcome.ENDED


def test_what_is_wrong_with_one_request_is_told_in_its_place(lab: Lab) -> None:
    hall = Hall(lab)
    requests: Any = [JoinRequest("a"), JoinRequest("b b"), "c", JoinRequest("d", "k k")]
    answers = hall.queue.join_many(requests)
    assert isinstance(answers[0], PlaceAnswer)
    assert [type(answer) for answer in answers[1:]] == [InvalidRequest] * 3
    assert [str(answer).partition(":")[0] for answer in answers[1:]] == ["buyer", "requests", "key"]
    assert hall.fields("joined") == [1]


def test_without_one_place_a_buyer_joining_is_a_counter_and_nothing_else(lab: Lab) -> None:
    hall = Hall(lab, sale={"admission": False}, one_place=False, places_max=4)
    answers = hall.join("ann", "ann", "bob")
    assert [(answer.number, answer.replayed) for answer in answers] == [
        (1, False), (2, False), (3, False),
    ]  # fmt: skip
    assert lab.raw.exists(places_key(hall.sale.id, 0)) == 0
    more = hall.queue.join_many([JoinRequest("cyd"), JoinRequest("dan")])
    assert outcomes(more) == [Outcome.JOINED, Outcome.ROOM_FULL]
    assert hall.queue.join("eve").outcome is Outcome.ROOM_FULL
    with pytest.raises(InvalidRequest, match="leave: needs a room with one_place"):
        hall.queue.leave("ann")
    with pytest.raises(InvalidRequest, match="ticket: is needed in a room without one_place"):
        hall.queue.admit("ann")


# --- admit --------------------------------------------------------------------------------


def test_nobody_is_let_in_before_the_opening_and_those_called_after_it(lab: Lab) -> None:
    hall = Hall(lab, opens_at_ms=OPENING)
    (ann,) = hall.join("ann")
    hall.at(OPENING - 1)
    waits = hall.queue.admit("ann", ann.ticket)
    assert (waits.outcome, waits.place, waits.ahead, waits.number) == (
        Outcome.WAITING,
        None,
        None,
        1,
    )
    hall.look(OPENING)
    told = hall.queue.admit("ann", ann.ticket)
    assert (told.outcome, told.replayed, told.number) == (Outcome.ADMITTED, False, 1)
    assert told.turn_ends_ms == OPENING + SLOT + TTL
    assert told.ticket == ann.ticket


def test_letting_in_again_is_replayed_until_the_turn_ends(lab: Lab) -> None:
    hall = Hall(lab)
    (first,) = hall.let_in("ann")
    assert (first.replayed, first.turn_ends_ms) == (False, ENDS)
    hall.at(ENDS - 1)
    before = hall.field("admitted", "ann")
    again = hall.queue.admit("ann")
    assert (again.outcome, again.replayed, again.turn_ends_ms) == (Outcome.ADMITTED, True, ENDS)
    assert hall.field("admitted", "ann") == before
    assert hall.fields(f"{T0 // SLOT}a") == [1]  # arrived once
    hall.at(ENDS)
    over = hall.queue.admit("ann")
    assert (over.outcome, over.turn_ends_ms) == (Outcome.TURN_OVER, None)


def test_a_buyer_twice_in_a_batch_is_let_in_once(lab: Lab) -> None:
    hall = Hall(lab)
    hall.call("ann", "bob")
    assert admit_raw(hall, "ann", "bob", "ann") == "444"
    assert hall.fields(f"{T0 // SLOT}a") == [2]


def test_the_first_to_arrive_late_has_what_is_left_of_the_turn_and_a_no_show_nothing(
    lab: Lab,
) -> None:
    hall = Hall(lab)
    hall.call("ann", "bob")
    hall.at(ENDS - 1)
    late = hall.queue.admit("ann")
    assert (late.outcome, late.turn_ends_ms) == (Outcome.ADMITTED, ENDS)
    hall.at(ENDS)
    assert hall.queue.admit("bob").outcome is Outcome.TURN_OVER


def test_whoever_is_not_called_waits_and_whoever_has_no_place_is_told_so(lab: Lab) -> None:
    hall = Hall(lab, {"red": 2})
    hall.call("a", "b", "c")
    assert [hall.queue.admit(buyer).outcome for buyer in "abcd"] == [
        Outcome.ADMITTED, Outcome.ADMITTED, Outcome.WAITING, Outcome.NOT_JOINED,
    ]  # fmt: skip


def test_a_ticket_need_not_be_shown_but_must_be_that_of_the_place_there_is(lab: Lab) -> None:
    hall = Hall(lab)
    (ann,) = hall.call("ann")
    hall.queue.leave("ann")
    assert hall.queue.admit("ann", ann.ticket).outcome is Outcome.NOT_JOINED
    hall.at(hall.now() + 1)
    (anew,) = hall.join("ann")
    hall.look(hall.now() + 1)
    old = hall.queue.admit("ann", ann.ticket)
    assert old.outcome is Outcome.WRONG_TICKET
    assert old.rule == "must be the ticket of the place that the buyer has now"
    assert hall.queue.admit("ann", anew.ticket).outcome is Outcome.ADMITTED


def test_without_one_place_the_number_must_have_been_given(lab: Lab) -> None:
    hall = Hall(lab, sale={"admission": False}, one_place=False)
    hall.call("ann", "ann")
    now = hall.now()
    tickets = encode([[1, 2, 3, 0], [now] * 4, [now + 1] * 4])
    assert letters(hall, "admit", encode(["ann"] * 4), encode([]), tickets) == "44--"


def test_a_buyer_who_shows_two_tickets_in_turn_arrives_once_by_each(lab: Lab) -> None:
    hall = Hall(lab, sale={"admission": False}, one_place=False)
    tickets = [answer.ticket for answer in hall.call("ann", "ann")]
    told = [hall.queue.admit("ann", tickets[n % 2]) for n in range(6)]
    assert outcomes(told) == [Outcome.ADMITTED] * 6
    assert [answer.replayed for answer in told] == [False] * 2 + [True] * 4
    assert hall.fields(f"{T0 // SLOT}a") == [2]
    now = hall.now()
    both = encode([[1, 2, 1], [now] * 3, [now + 1] * 3])
    assert letters(hall, "admit", encode(["ann"] * 3), encode([]), both) == "444"
    assert hall.look().arrived == 2


def test_why_the_sale_takes_no_hold_refuses_every_admission_too(lab: Lab) -> None:
    hall = Hall(lab, sale={"opens_at_ms": T0 + 100, "closes_at_ms": T0 + 10_000})
    hall.join("ann")
    told = {}
    for at_ms in (T0, T0 + 99, T0 + 100, T0 + 9_999, T0 + 10_000):
        hall.at(at_ms)
        told[at_ms - T0] = hall.queue.admit("ann").outcome
    admitted = Outcome.ADMITTED
    assert told == {
        0: Outcome.NOT_OPEN, 99: Outcome.NOT_OPEN,
        100: admitted, 9_999: admitted, 10_000: Outcome.CLOSED,
    }  # fmt: skip
    hall.sale.pause()
    assert hall.queue.admit("ann").outcome is Outcome.PAUSED
    hall.sale.end()
    assert hall.queue.admit("ann").outcome is Outcome.ENDED


def test_of_several_reasons_to_refuse_an_admission_the_first_of_the_order_answers(
    lab: Lab,
) -> None:
    hall = Hall(lab, {"red": 1}, sale={"opens_at_ms": T0 + 10, "closes_at_ms": T0 + 20})
    hall.join("ann", "bob")
    hall.at(T0 + 10)

    def told(buyer: str, number: int, issued: int, expires: int, **more: Any) -> str:
        tickets = encode([[number], [issued], [expires]])
        return letters(hall, "admit", encode([buyer]), encode([1]), tickets, **more)

    now = T0 + 10
    assert told("cyd", 9, now + 1, now) == "<"  # TICKET_EXPIRED before all of the ticket
    assert told("cyd", 9, now + 1, now + 1) == "-"  # WRONG_TICKET: issued later than now
    assert told("cyd", 9, now, now + 1) == "7"  # NOT_JOINED: there is no place to compare
    assert told("bob", 1, now, now + 1) == "-"  # WRONG_TICKET: another number than the place's
    assert told("bob", 2, now, now + 1) == "2"
    assert told("ann", 1, now, now + 1) == "4"
    hall.at(T0 + 20)
    assert told("cyd", 9, 0, 1) == "K"
    hall.at(T0 + 9)
    assert told("cyd", 9, 0, 1) == "N"
    jump(hall)
    assert told("cyd", 9, 0, 1, caller_ms=1_000) == "N"
    hall.sale.pause()
    jump(hall)
    assert told("cyd", 9, 0, 1, caller_ms=1_000) == "P"
    hall.sale.end()
    hall.at(T0 + 20)
    assert told("cyd", 9, 0, 1) == "Z"
    assert told("c d", 9, 0, 1) == "!"


def test_a_jumped_clock_lets_nobody_in_and_calls_nobody(lab: Lab) -> None:
    hall = Hall(lab)
    hall.join("ann")
    jump(hall)
    assert admit_raw(hall, "ann", caller_ms=1_000) == "J"
    assert join_raw(hall, "bob", caller_ms=1_000) == "J"
    assert hall.fields("joined", "serving") == [1, 0]


# --- leave --------------------------------------------------------------------------------


def vacant(hall: Hall) -> list[int]:
    """The numbers that are marked as left."""
    bits: bytes = hall.lab.raw.get(hall.lab.keys(hall.sale).vacant) or b""  # type: ignore[assignment]
    return [n for n in range(8 * len(bits)) if bits[n // 8] >> (7 - n % 8) & 1]


@pytest.mark.parametrize("opens_at_ms", [None, OPENING])
def test_a_place_left_before_its_call_keeps_its_number_and_leaving_again_is_replayed(
    lab: Lab, opens_at_ms: int | None
) -> None:
    hall = Hall(lab, opens_at_ms=opens_at_ms)
    hall.join("ann", "bob")
    left = hall.queue.leave("ann")
    assert (left.outcome, left.replayed) == (Outcome.LEFT, False)
    assert lab.raw.hgetall(places_key(hall.sale.id, 0)) == {b"ann": b"-1", b"bob": b"2"}
    assert hall.fields("left", "vacant") == [1, 1]
    assert vacant(hall) == [1]
    with nothing_written(hall):
        again = hall.queue.leave("ann")
        never = hall.queue.leave("cyd")
    assert (again.outcome, again.replayed) == (Outcome.LEFT, True)
    assert (never.outcome, never.replayed) == (Outcome.LEFT, True)
    assert hall.look().left == 1


def test_joining_and_leaving_in_turn_uses_no_numbers_up(lab: Lab) -> None:
    hall = Hall(lab, places_max=3, key_places_max=1)
    hall.queue.pause()
    assert hall.queue.join("ann", key="phone").number == 1
    hall.join("bob", "cyd")
    for _ in range(4):
        assert hall.queue.leave("ann").replayed is False
        assert hall.queue.admit("ann").outcome is Outcome.NOT_JOINED
        assert hall.fields("joined", "left", "vacant") == [3, 1, 1]
        back = hall.queue.join("ann", key="phone")
        assert (back.outcome, back.number, back.replayed) == (Outcome.JOINED, 1, False)
        assert hall.queue.join("ann").replayed
        assert hall.fields("joined", "left", "vacant") == [3, 0, 0]
        assert vacant(hall) == []
    assert lab.raw.hgetall(places_key(hall.sale.id, 0)) == {
        b"ann": b"1", b"bob": b"2", b"cyd": b"3", b":phone": b"1",
    }  # fmt: skip
    hall.queue.resume()
    hall.look()
    assert hall.queue.admit("ann", back.ticket).outcome is Outcome.ADMITTED


def test_those_who_come_back_are_told_among_new_ones_in_a_batch(lab: Lab) -> None:
    hall = Hall(lab)
    hall.queue.pause()
    hall.join("ann", "bob", "cyd")
    for buyer in ("ann", "cyd"):
        hall.queue.leave(buyer)
    answers = hall.join("dan", "cyd", "eve", "cyd", "bob", "ann")
    assert [(answer.number, answer.replayed) for answer in answers] == [
        (4, False), (3, False), (5, False), (3, True), (2, True), (1, False),
    ]  # fmt: skip
    assert hall.fields("joined", "left", "vacant") == [5, 0, 0]
    assert vacant(hall) == []


def test_a_place_that_was_left_is_passed_over_and_its_buyer_gets_a_new_number(lab: Lab) -> None:
    hall = Hall(lab, {"red": 2})
    hall.join("ann", "bob", "cyd")
    for buyer in ("ann", "bob"):
        hall.queue.leave(buyer)
    hall.look()
    assert hall.fields("serving", "left", "vacant") == [3, 2, 0]
    assert hall.queue.admit("ann").outcome is Outcome.NOT_JOINED
    assert hall.queue.admit("cyd").outcome is Outcome.ADMITTED
    with nothing_written(hall):
        assert hall.queue.leave("ann").replayed
    (ann,) = hall.join("ann")
    assert (ann.number, ann.replayed, ann.outcome) == (4, False, Outcome.JOINED)
    hall.look(ENDS)
    (bob,) = hall.join("bob")
    assert (bob.number, bob.replayed) == (5, False)
    assert hall.fields("left", "vacant") == [2, 0]


def test_a_place_is_passed_over_wherever_the_opening_put_it(lab: Lab) -> None:
    hall = Hall(lab, {"red": 1}, opens_at_ms=OPENING)
    hall.crowd(40)
    for number in range(4, 41):
        hall.queue.leave(f"b{number}")
    places = sorted((hall.look(OPENING).present and hall.place_of(n), n) for n in (1, 2, 3))
    for place, number in places:
        view = hall.look()
        assert (view.serving, view.outstanding) == (place, 1)
        assert hall.queue.admit(f"b{number}").outcome is Outcome.ADMITTED
        hall.queue.leave(f"b{number}")
        hall.at(hall.now() + 1)


def test_a_place_that_was_called_is_gone_when_it_is_left(lab: Lab) -> None:
    hall = Hall(lab)
    hall.call("ann", "bob")
    hall.queue.leave("ann")
    assert lab.raw.hgetall(places_key(hall.sale.id, 0)) == {b"bob": b"2"}
    (anew,) = hall.join("ann")
    assert (anew.number, anew.replayed) == (3, False)
    assert hall.fields("left") == [1]


def test_a_ticket_gives_up_the_place_it_is_for_and_no_other(lab: Lab) -> None:
    hall = Hall(lab)
    (before,) = hall.call("ann")
    assert hall.queue.leave("ann", before.ticket).replayed is False
    (after,) = hall.join("ann")
    late = hall.queue.leave("ann", before.ticket)
    assert (late.outcome, late.replayed) == (Outcome.LEFT, True)
    assert hall.queue.join("ann").number == after.number
    assert hall.queue.leave("bob", after.ticket).outcome is Outcome.WRONG_TICKET
    assert hall.queue.leave("ann", after.ticket).replayed is False
    assert hall.look().left == 2


def test_leaving_twice_in_a_batch_leaves_once(lab: Lab) -> None:
    hall = Hall(lab)
    hall.call("ann", "bob")
    reply = lab.eval(
        "waiting_room/leave", hall.sale, encode(["ann"] * 2), encode([1, 1]), encode([0, 0])
    )
    assert reply[3] == b"8"
    assert msgspec.msgpack.decode(reply[4]) == [2, "", 0, 1]
    assert hall.fields("left", f"{T0 // SLOT}d") == [1, 1]


@pytest.mark.parametrize("arrived", [False, True])
def test_a_turn_that_is_given_back_goes_to_somebody_else_at_once(lab: Lab, arrived: bool) -> None:
    hall = Hall(lab, {"red": 2})
    hall.call("a", "b", "c")
    assert hall.fields("serving") == [2]
    if arrived:
        hall.queue.admit("a")
    hall.queue.leave("a")
    assert lab.raw.hexists(lab.keys(hall.sale).admitted, "a") is False
    view = hall.look(hall.now() + 1)
    assert (view.serving, view.outstanding) == (3, 2)
    assert hall.queue.admit("c").outcome is Outcome.ADMITTED
    assert hall.sale.hold("a", {"red": 1}, hold_id="h").outcome is Outcome.NOT_ADMITTED


def test_a_turn_whose_buyer_is_done_with_it_is_not_given_back_twice(lab: Lab) -> None:
    hall = Hall(lab)
    hall.let_in("ann")
    hall.sale.hold("ann", {"red": 1}, hold_id="h").unwrap()
    slot = T0 // SLOT
    assert hall.fields(f"{slot}d") == [1]
    hall.queue.leave("ann")
    assert hall.fields(f"{slot}d", "left") == [1, 1]
    assert hall.sale.confirm("ann", "h").outcome is Outcome.CONFIRMED


def test_a_place_not_called_yet_or_over_has_no_turn_to_give_back(lab: Lab) -> None:
    hall = Hall(lab, {"red": 1})
    hall.call("a", "b")
    hall.queue.leave("b")
    assert hall.fields(f"{T0 // SLOT}d") == [0]
    hall.look(ENDS)
    hall.queue.leave("a")
    assert hall.look().left == 2
    assert all(row.done == 0 for row in hall.look().turns)


def test_one_leaves_a_sale_that_is_paused_or_has_ended(lab: Lab) -> None:
    hall = Hall(lab)
    hall.join("ann", "bob")
    hall.sale.pause()
    assert hall.queue.leave("ann").replayed is False
    hall.sale.end()
    assert hall.queue.leave("bob").replayed is False


# --- reveal -------------------------------------------------------------------------------

OTHER_SEED = "ab" * 32


def test_a_seed_is_revealed_at_the_opening_to_the_millisecond_and_the_first_stays(
    lab: Lab,
) -> None:
    hall = Hall(lab, opens_at_ms=OPENING)
    hall.join("ann", "bob")
    hall.at(OPENING - 1)
    with nothing_written(hall):
        assert letters(hall, "reveal", OTHER_SEED) == "N"
    hall.at(OPENING)
    assert letters(hall, "reveal", OTHER_SEED) == ""
    assert hall.fields("present") == [2]
    assert hall.field("room", "seed") == OTHER_SEED.encode()
    with nothing_written(hall):
        assert letters(hall, "reveal", "cd" * 32) == ""


@pytest.mark.parametrize("seed", ["", "ab", "ab" * 33, "AB" * 32, "g" * 64, "ab" * 31 + "a\n"])
def test_a_seed_that_is_none_is_refused(lab: Lab, seed: str) -> None:
    hall = Hall(lab, opens_at_ms=OPENING)
    hall.join("ann")
    hall.at(OPENING)
    with nothing_written(hall):
        assert letters(hall, "reveal", seed) == "!"


def test_a_process_without_the_rooms_key_reveals_nothing_and_does_what_needs_none(
    lab: Lab, server_url: str, request: pytest.FixtureRequest
) -> None:
    hall = Hall(lab, opens_at_ms=OPENING)
    hall.join("ann", "bob")
    hall.at(OPENING)
    shell = request.node.callspec.params["shop"]
    with connect(shell, server_url, keys=[Key("other", bytes(32))]) as shop:
        queue = shop.sale(hall.sale.id).queue
        for view in (queue.view(), queue.pause(), queue.set_rate(7), queue.resume()):
            assert (view.present, view.drawn, view.seed, view.serving) == (2, False, "", 0)
        assert queue.admit("ann").outcome is Outcome.WAITING
        joined = queue.join("cal")
        assert (joined.outcome, joined.number, joined.place) == (Outcome.JOINED, 3, None)
        assert queue.position("cal", joined.ticket).outcome is Outcome.WAITING
        assert queue.leave("bob").outcome is Outcome.LEFT
    assert hall.field("room", "seed") == b""
    assert hall.look().seed == shuffle.make_seed(KEY.secret, hall.sale.id)


def test_a_key_of_the_rooms_name_that_is_another_is_an_error_but_for_who_steers(
    lab: Lab, server_url: str, request: pytest.FixtureRequest
) -> None:
    hall = Hall(lab, opens_at_ms=OPENING)
    hall.join("ann")
    hall.at(OPENING)
    shell = request.node.callspec.params["shop"]
    with connect(shell, server_url, keys=[Key(KEY.id, bytes(32))]) as shop:
        queue = shop.sale(hall.sale.id).queue
        with pytest.raises(ConfigurationError, match="'test' is not the key that this room began"):
            queue.view()
        assert queue.pause().state is RoomState.PAUSED
    assert hall.field("room", "seed") == b""
    assert hall.look().drawn


def test_a_view_from_before_a_pause_that_arrives_late_undoes_nothing(lab: Lab) -> None:
    hall = Hall(lab)
    hall.join("ann")
    before = lab.shop.perform(waiting_room.glance(hall.sale.id))
    hall.queue.pause()  # in the same millisecond, by the sale's time
    lab.shop._rooms.remember(before)
    kept = lab.shop._rooms[hall.sale.id].view
    assert (before.view.state, kept.state) == (RoomState.RUNNING, RoomState.PAUSED)
    assert before.view.at_ms == kept.at_ms


# --- show ---------------------------------------------------------------------------------


def test_the_room_is_shown_with_the_sales_units_and_why_nobody_may_hold(lab: Lab) -> None:
    hall = Hall(lab, sale={"opens_at_ms": T0 + 10, "closes_at_ms": T0 + 20})
    told = {at: hall.look(T0 + at).closed for at in (0, 9, 10, 19, 20)}
    assert told == {
        0: Outcome.NOT_OPEN, 9: Outcome.NOT_OPEN, 10: None, 19: None, 20: Outcome.CLOSED,
    }  # fmt: skip
    hall.sale.pause()
    assert hall.look().closed is Outcome.PAUSED
    hall.sale.end()
    assert hall.look().closed is Outcome.ENDED
    jumped = Hall(lab)
    jump(jumped)
    reply = lab.eval("waiting_room/show", jumped.sale, caller_ms=1_000)
    assert reply[2:4] == [b"", b"J"]


def test_units_and_the_numbers_for_operators_are_those_of_the_whole_sale(lab: Lab) -> None:
    hall = Hall(lab, {"red": 3, "blue": 4})
    hall.let_in("a", "b")
    hall.call("c")
    hall.sale.hold("a", {"red": 2}, hold_id="h").unwrap()
    hall.sale.hold("b", {"blue": 1}, hold_id="h").unwrap()
    hall.sale.confirm("a", "h").unwrap()
    hall.join("d", "e")
    hall.queue.pause()
    view = hall.look()
    assert (view.available, view.set_aside, view.held, view.sold) == (4, 0, 1, 2)
    assert (view.joined, view.serving, view.waiting, view.arrived) == (5, 3, 2, 2)
    (turns,) = view.turns
    assert (turns.serving, turns.arrived, turns.done, turns.units) == (3, 2, 2, 3)
    later = hall.look(ENDS)
    assert (later.over, later.no_shows, later.units, later.arrived) == (3, 1, 3, 2)


# --- steer --------------------------------------------------------------------------------


def test_a_paused_room_calls_nobody_and_lets_those_called_in(lab: Lab) -> None:
    hall = Hall(lab)
    hall.call("a")
    assert hall.queue.pause().state is RoomState.PAUSED
    hall.join("b")
    view = hall.look(hall.now() + 10)
    assert (view.serving, view.state) == (1, RoomState.PAUSED)
    assert hall.queue.admit("a").outcome is Outcome.ADMITTED
    assert hall.queue.admit("b").outcome is Outcome.WAITING
    assert hall.sale.hold("a", {"red": 1}, hold_id="h").outcome is Outcome.HELD
    resumed = hall.queue.resume()
    assert (resumed.state, resumed.serving) == (RoomState.RUNNING, 2)


def test_what_gathered_in_the_bucket_is_forgotten_by_steering(lab: Lab) -> None:
    hall = Hall(lab, rate_per_s=2)
    hall.crowd(20)
    assert hall.look(T0 + 10_000).serving == 4  # two seconds' worth
    hall.at(T0 + 20_000)  # four more would be called
    assert hall.queue.set_rate(3.5).serving == 5
    assert hall.field("room", "rate") == b"3.500000"
    hall.at(T0 + 30_000)
    hall.queue.pause()
    assert hall.look().serving == 5
    assert hall.queue.resume().serving == 6
    assert hall.look(T0 + 31_000).serving == 9  # 3.5 a second
    assert hall.look().rate_per_s == 3.5


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf"), "1", None, True, 1_000_001])
def test_a_rate_that_is_none_is_refused(lab: Lab, rate: Any) -> None:
    hall = Hall(lab)
    with nothing_written(hall), pytest.raises(InvalidRequest, match="rate_per_s: must be a number"):
        hall.queue.set_rate(rate)


# --- no room, no sale ---------------------------------------------------------------------

Verb = Callable[[Any], Any]
VERBS: dict[str, Verb] = {
    "join": lambda queue: queue.join("ann"),
    "join_many": lambda queue: queue.join_many([JoinRequest("ann")]),
    "position": lambda queue: queue.position("ann", "ticket"),
    "admit": lambda queue: queue.admit("ann"),
    "leave": lambda queue: queue.leave("ann"),
    "view": lambda queue: queue.view(),
    "pause": lambda queue: queue.pause(),
    "resume": lambda queue: queue.resume(),
    "set_rate": lambda queue: queue.set_rate(1),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_without_a_room_a_sale_or_before_a_purge_says_which(lab: Lab, verb: str) -> None:
    sale = lab.open()
    with refused(Outcome.ROOM_UNKNOWN):
        VERBS[verb](sale.queue)
    with refused(Outcome.SALE_UNKNOWN):
        VERBS[verb](lab.shop.sale(lab.new_id()).queue)
    sale.end()
    sale.purge()
    with refused(Outcome.PURGED):
        VERBS[verb](sale.queue)


RAW: dict[str, tuple[Any, ...]] = {
    "join": (encode(["ann"]), encode([1]), b""),
    "admit": (encode(["ann"]), encode([1]), encode([[0], [0], [0]])),
    "leave": (encode(["ann"]), encode([1]), encode([0])),
    "reveal": ("ab" * 32,),
    "show": (),
    "steer": ("paused", ""),
}


@pytest.mark.parametrize("name", RAW)
def test_a_script_says_so_itself_whatever_its_client_remembers(lab: Lab, name: str) -> None:
    sale = lab.open()
    unopened = lab.shop.sale(lab.new_id())
    told = []
    for where in (sale, unopened):
        reply = lab.eval(f"waiting_room/{name}", where, *RAW[name])
        told.append(reply[3] if len(reply) == 5 else reply[2])
    sale.end()
    sale.purge()
    reply = lab.eval(f"waiting_room/{name}", sale, *RAW[name])
    told.append(reply[3] if len(reply) == 5 else reply[2])
    assert told == [b"9", b"u", b"p"]


@pytest.mark.parametrize("name", RAW)
def test_a_room_or_a_sale_in_an_unknown_format_is_refused_and_unharmed(lab: Lab, name: str) -> None:
    for key, what in (("room", "the room is in format 9"), ("sale", "the sale is in format 9")):
        hall = Hall(lab)
        hall.join("ann")
        lab.raw.hset(getattr(lab.keys(hall.sale), key), "format", "9")
        with (
            nothing_written(hall),
            pytest.raises(redis.ResponseError, match=f"FLASHSALE_FORMAT {what}"),
        ):
            lab.eval(f"waiting_room/{name}", hall.sale, *RAW[name])


# --- what is told to those who wait -------------------------------------------------------


def test_a_position_is_place_minus_serving_and_tells_what_becomes_of_it(lab: Lab) -> None:
    hall = Hall(lab, {"red": 2})
    answers = hall.call("a", "b", "c", "d")
    hall.look()
    told = [hall.queue.position(answer.buyer, answer.ticket) for answer in answers]
    assert outcomes(told) == [Outcome.CALLED] * 2 + [Outcome.WAITING] * 2
    assert [answer.ahead for answer in told] == [0, 0, 0, 1]
    assert [answer.place for answer in told] == [1, 2, 3, 4]
    assert [answer.turn_ends_ms for answer in told] == [ENDS, ENDS, None, None]
    assert [answer.poll_after_ms is None for answer in told] == [True, True, False, False]
    assert [answer.outlook for answer in told[2:]] == [Outlook.UNLIKELY] * 2
    hall.at(ENDS)
    over = hall.queue.position("a", answers[0].ticket)
    assert (over.outcome, over.ahead) == (Outcome.TURN_OVER, None)
    hall.sale.end()
    hall.at(ENDS)
    assert hall.queue.position("c", answers[2].ticket).outcome is Outcome.ENDED


def test_hopeless_is_said_when_nothing_is_left_that_could_come_back_and_not_before(
    lab: Lab,
) -> None:
    hall = Hall(lab, {"red": 1}, margin=0)
    (_, bob) = hall.call("ann", "bob")
    hall.queue.admit("ann")
    held = hall.sale.hold("ann", {"red": 1}, hold_id="h").unwrap()
    hall.at(hall.now() + 1)
    assert hall.queue.position("bob", bob.ticket).outlook is Outlook.UNLIKELY
    hall.sale.confirm(held).unwrap()
    hall.at(hall.now() + 1)
    assert hall.queue.position("bob", bob.ticket).outlook is Outlook.HOPELESS
    assert hall.queue.admit("bob", bob.ticket).outlook is Outlook.HOPELESS
    hall.sale.restock({"red": 1}, op_id="truck").unwrap()
    hall.at(hall.now() + 1)
    assert hall.queue.admit("bob").outcome is Outcome.ADMITTED


def test_a_position_before_the_opening_says_neither_place_nor_how_many_are_ahead(
    lab: Lab,
) -> None:
    hall = Hall(lab, opens_at_ms=OPENING)
    (ann, *_) = hall.crowd(5)
    assert (ann.outcome, ann.place, ann.ahead, ann.number) == (Outcome.JOINED, None, None, 1)
    assert ann.poll_after_ms is not None
    assert ann.eta is not None
    assert ann.eta.expected_ms >= OPENING - T0
    told = hall.queue.position("b1", ann.ticket)
    assert (told.outcome, told.place, told.ahead) == (Outcome.WAITING, None, None)


# --- purge --------------------------------------------------------------------------------


def test_a_replay_is_told_its_number_when_some_turns_are_over_and_some_run(lab: Lab) -> None:
    hall = Hall(lab, {"red": 2}, opens_at_ms=OPENING)
    hall.crowd(9)
    hall.look(OPENING)
    hall.look(OPENING + 1)
    ends = OPENING + SLOT + TTL
    for at_ms, over in ((OPENING + 2, 0), (ends - 1, 0), (ends, 2)):
        lab.set_time(hall.sale, at_ms)
        answers = hall.crowd(9)
        assert sum(not answer.replayed for answer in answers) == over, at_ms


def test_a_purge_removes_every_key_of_the_room_but_the_tombstone(lab: Lab) -> None:
    hall = Hall(
        lab, places_max=5 * limits.PLACES_PER_HASH, key_places_max=50, sale={"key_holds_max": 5}
    )
    hall.join(*(f"b{n}" for n in range(40)), key="phone")
    hall.queue.leave("b39")
    hall.look()
    hall.look(hall.now() + 1)
    hall.queue.admit("b0")
    hall.sale.hold("b0", {"red": 1}, hold_id="h", key="phone").unwrap()
    hall.sale.confirm("b0", "h").unwrap()
    names = [key.decode().rpartition("#0}:")[2] for key in hall.everything()]
    assert {"room", "admitted", "vacant", "caps", "places:0", "places:4"} <= set(names)
    hall.sale.end()
    assert hall.sale.purge().outcome is Outcome.PURGED
    assert hall.everything() == {
        hall.lab.keys(hall.sale).sale.encode(): {
            b"format": b"1", b"state": b"purged", b"epoch": b"1",
        }
    }  # fmt: skip
    assert hall.sale.purge().replayed


def test_a_purge_that_does_not_know_of_the_room_deletes_nothing(lab: Lab) -> None:
    hall = Hall(lab)
    hall.join("ann")
    hall.sale.end()
    with nothing_written(hall):
        for hashes in ("0", "2"):
            assert lab.eval("inventory/purge", hall.sale, 0, hashes)[3] == b"T"
