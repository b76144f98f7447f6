"""The waiting room's part of the battery: what `test_mutations` sees fail without a safeguard."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
import redis

from flashsale import FlashSale, HoldRequest, JoinRequest, Outcome, ProtocolError, Rejected
from flashsale.keys import places_key
from support.lab import T0, Lab
from support.queues import ENDS, SLOT, Hall

encode = msgspec.msgpack.encode
ONE = {"red": 1}
OPENING = T0 + 60_000
SLOT_OF_T0 = T0 // SLOT

_number = itertools.count()


class RoomBattery:
    """Runs the checks; an AssertionError or an error of the library is a failure."""

    def __init__(self, shop: FlashSale, raw: redis.Redis) -> None:
        self._lab = Lab(shop, raw, lambda: f"room-battery-{next(_number)}")

    def run(self) -> None:
        self.nobody_holds_without_a_turn()
        self.a_turn_is_counted_once()
        self.a_buyer_has_one_place()
        self.a_room_and_a_key_have_so_many_places()
        self.a_key_has_so_many_holds()
        self.tickets_are_good_for_their_place_and_time()
        self.turns_end()
        self.leaving_gives_a_turn_back_once()
        self.leaving_uses_no_numbers_up()
        self.places_left_are_passed_over()
        self.one_call_looks_at_so_many_places()
        self.places_are_called_within_rate_stock_and_state()
        self.what_falls_due_is_called_for()
        self.numbers_are_fixed_at_the_opening()
        self.a_room_is_opened_once()

    def nobody_holds_without_a_turn(self) -> None:
        hall = Hall(self._lab)
        hall.let_in("ann")
        hall.call("bob")
        for buyer in ("bob", "cyd"):
            assert _hold(hall, buyer) is Outcome.NOT_ADMITTED
        answers: Any = hall.sale.hold_many([HoldRequest(b, ONE, "h") for b in ("x", "ann", "y")])
        assert [answer.outcome for answer in answers] == [
            Outcome.NOT_ADMITTED, Outcome.HELD, Outcome.NOT_ADMITTED,
        ]  # fmt: skip
        hall.at(ENDS)
        assert _hold(hall, "ann", "h2") is Outcome.NOT_ADMITTED

    def a_turn_is_counted_once(self) -> None:
        hall = Hall(self._lab, {"red": 2, "blue": 9})
        hall.let_in("ann", "bob")
        hall.queue.admit("ann")
        hall.sale.cue("drop", at=1, cue_time_ms=T0, stock={"red": 1})
        assert _hold(hall, "ann", "h0", {"red": 3}) is Outcome.SOLD_OUT  # there never were so many
        assert _counted(hall) == [2, 0, 0]
        assert _hold(hall, "ann", "h1", {"red": 2}) is Outcome.SOLD_OUT
        assert _hold(hall, "ann", "h2", {"red": 2}) is Outcome.SOLD_OUT
        assert _counted(hall) == [2, 0, 2]
        assert _hold(hall, "ann", "h3", {"red": 1}) is Outcome.HELD
        assert _counted(hall) == [2, 1, 2]
        assert _hold(hall, "ann", "h4", {"blue": 2}) is Outcome.HELD
        assert _counted(hall) == [2, 1, 2]
        args = encode(["bob", "bob"]), encode([1, 1]), encode([[0, 0]] * 3)
        self._lab.raw.hdel(self._lab.keys(hall.sale).admitted, "bob")
        self._lab.eval("waiting_room/admit", hall.sale, *args)
        assert _counted(hall)[0] == 3
        greedy = Hall(self._lab, {"red": 99})
        greedy.let_in("ann")
        assert _hold(greedy, "ann", "h1", {"red": 11}) is Outcome.HELD
        assert _hold(greedy, "ann", "h2") is Outcome.HELD
        assert _counted(greedy) == [1, 1, 10]

    def a_buyer_has_one_place(self) -> None:
        hall = Hall(self._lab)
        hall.call("ann", "bob", "ann")
        assert hall.queue.join("ann").number == 1
        assert hall.fields("joined") == [2]
        hall.look(ENDS)
        assert hall.queue.join("ann").number == 3
        hall.sale.end()
        assert hall.queue.join("new").outcome is Outcome.ENDED
        closing = Hall(self._lab, sale={"closes_at_ms": T0 + 5})
        closing.at(T0 + 5)
        assert closing.queue.join("ann").outcome is Outcome.CLOSED
        assert closing.fields("joined") == [0]

    def a_room_and_a_key_have_so_many_places(self) -> None:
        hall = Hall(self._lab, places_max=3, key_places_max=1)
        answers: Any = hall.queue.join_many(
            [JoinRequest(b, "k" if b in "ab" else "") for b in "abcde"]
        )
        assert [answer.outcome for answer in answers] == [
            Outcome.JOINED, Outcome.KEY_LIMIT, Outcome.JOINED, Outcome.JOINED, Outcome.ROOM_FULL,
        ]  # fmt: skip

    def a_key_has_so_many_holds(self) -> None:
        for admission in (False, True):
            hall = Hall(self._lab, sale={"key_holds_max": 1, "admission": admission})
            hall.let_in("a", "b")
            assert _hold(hall, "a", key="k") is Outcome.HELD
            assert _hold(hall, "b", key="k") is Outcome.KEY_LIMIT

    def tickets_are_good_for_their_place_and_time(self) -> None:
        hall = Hall(self._lab)
        hall.call("ann", "bob")
        now = hall.now()
        for number, issued, expires, code in (
            (1, now, now, b"<"), (1, now + 1, now + 9, b"-"), (2, now, now + 9, b"-"),
            (1, now, now + 9, b"4"),
        ):  # fmt: skip
            ticket = encode([[number], [issued], [expires]])
            args = encode(["ann"]), encode([1]), ticket
            assert self._lab.eval("waiting_room/admit", hall.sale, *args)[3] == code
        loose = Hall(self._lab, sale={"admission": False}, one_place=False)
        loose.call("ann")
        args = encode(["ann"]), encode([]), encode([[2], [T0], [ENDS]])
        assert self._lab.eval("waiting_room/admit", loose.sale, *args)[3] == b"-"
        first, second = (answer.ticket for answer in loose.call("bob", "bob"))
        for ticket in (first, second, first):
            assert loose.queue.admit("bob", ticket).outcome is Outcome.ADMITTED
        assert _counted(loose)[0] == 2

    def turns_end(self) -> None:
        hall = Hall(self._lab, {"red": 2})
        hall.call("a", "b", "c")
        assert hall.queue.admit("a").outcome is Outcome.ADMITTED
        assert hall.queue.admit("c").outcome is Outcome.WAITING
        hall.at(ENDS)
        assert hall.queue.admit("c").outcome is Outcome.ADMITTED
        for buyer in "ab":
            assert hall.queue.admit(buyer).outcome is Outcome.TURN_OVER
        assert hall.fields("over", "arrived", "units") == [2, 1, 0]

    def leaving_gives_a_turn_back_once(self) -> None:
        hall = Hall(self._lab, {"red": 2, "blue": 1})
        hall.let_in("a", "b")
        hall.call("late")
        assert _hold(hall, "a") is Outcome.HELD
        hall.queue.leave("a")
        assert _counted(hall)[1] == 1
        hall.queue.leave("b")
        hall.queue.leave("b")
        assert _counted(hall)[1] == 2
        view = hall.look()
        assert (view.left, view.vacant) == (2, 0)
        assert _hold(hall, "b") is Outcome.NOT_ADMITTED
        assert hall.queue.join("b").number == 4  # its turn was called
        self._lab.set_time(hall.sale, ENDS)
        hall.queue.leave("late")
        assert _counted(hall)[1] == 2

    def leaving_uses_no_numbers_up(self) -> None:
        hall = Hall(self._lab, {"red": 1})
        hall.call("a", "b")
        for _ in range(2):
            assert [hall.queue.leave("b").replayed for _ in range(2)] == [False, True]
            assert hall.queue.admit("b").outcome is Outcome.NOT_JOINED
            assert hall.look().left == 1
            back, again = hall.queue.join("b"), hall.queue.join("b")
            assert (back.number, back.replayed, again.replayed) == (2, False, True)
        assert hall.look().left == 0
        hall.queue.leave("b")
        hall.queue.leave("a")
        hall.look(hall.now() + 1)
        assert hall.queue.admit("b").outcome is Outcome.NOT_JOINED

    def places_left_are_passed_over(self) -> None:
        hall = Hall(self._lab, {"red": 2}, rate_per_s=1)
        hall.queue.pause()
        hall.crowd(6)
        for n in (1, 2, 4, 6):
            hall.queue.leave(f"b{n}")
        hall.queue.join("b2")
        view = hall.queue.resume()
        assert (view.serving, view.outstanding, view.vacant, view.left) == (2, 1, 2, 3)
        view = hall.look(T0 + 1_000)
        assert (view.serving, view.outstanding, view.vacant) == (3, 2, 2)
        assert hall.queue.join("b1").number == 7
        assert hall.queue.join("b4").number == 4
        assert hall.look(ENDS + SLOT).over == 3
        view = hall.look(ENDS + SLOT + 1_000)
        assert (view.serving, view.passed, view.no_shows, view.vacant) == (5, 1, 2, 1)
        assert abs(view.conversion - 20 / 22) < 1e-6
        view = hall.look(ENDS + SLOT + 1_000 + ENDS - T0)
        assert hall.queue.admit("b1").outcome is Outcome.ADMITTED
        drawn = Hall(self._lab, {"red": 1}, opens_at_ms=OPENING)
        drawn.crowd(30)
        for n in range(2, 31):
            drawn.queue.leave(f"b{n}")
        assert drawn.look(OPENING).serving == drawn.place_of(1)
        assert drawn.queue.admit("b1").outcome is Outcome.ADMITTED

    def one_call_looks_at_so_many_places(self) -> None:
        hall = Hall(self._lab, {"red": 99})
        hall.queue.pause()
        hall.crowd(150)
        for n in range(1, 141):
            hall.queue.leave(f"b{n}")
        self._lab.eval("waiting_room/steer", hall.sale, "running", "")
        for serving in (128, 141):
            self._lab.eval("waiting_room/show", hall.sale)
            assert hall.fields("serving") == [serving]
        lost = Hall(self._lab, {"red": 99})
        lost.queue.pause()
        lost.crowd(3)
        lost.queue.leave("b3")
        self._lab.raw.delete(self._lab.keys(lost.sale).vacant)
        lost.queue.resume()
        assert lost.look(T0 + 9).serving == 3

    def places_are_called_within_rate_stock_and_state(self) -> None:
        hall = Hall(self._lab, {"red": 3}, rate_per_s=1)
        hall.crowd(9)
        assert [hall.look(T0 + at).serving for at in (0, 0, 1_000, 10_000)] == [1, 1, 2, 3]
        hall.queue.admit("b1")
        assert _hold(hall, "b1") is Outcome.HELD
        hall.sale.restock({"red": 5}, op_id="truck")
        view = hall.look(T0 + 62_000)
        assert (view.over, view.outstanding <= view.bound) == (3, True)
        hall.sale.pause()
        before = view.serving
        assert hall.look(T0 + 64_000).serving == before
        assert hall.queue.admit("b9").outcome is Outcome.PAUSED
        hall.sale.resume()
        hall.queue.pause()
        assert hall.look(T0 + 70_000).serving == before
        assert hall.queue.resume().serving == before + 1
        slow = Hall(self._lab, rate_per_s=0.0004)
        slow.crowd(2)
        steps = (0, *range(2_499_990, 2_500_001))
        assert [slow.look(T0 + at).serving for at in steps] == [1] * 11 + [2]
        sold_out = Hall(self._lab, {"red": 0})
        sold_out.crowd(3)
        assert sold_out.look(T0 + 9).serving == 0
        few = Hall(self._lab)
        few.crowd(2)
        few.look()
        assert few.look(T0 + 9).serving == 2
        done = Hall(self._lab, {"red": 2, "blue": 1})
        done.crowd(5)
        done.look()
        done.look(T0 + 1)
        for buyer in ("b1", "b2"):
            done.queue.admit(buyer)
            assert _hold(done, buyer) is Outcome.HELD
        done.sale.restock({"blue": 1}, op_id="truck")
        assert done.look(T0 + 2).serving == 4

    def what_falls_due_is_called_for(self) -> None:
        for move in (lambda hall: hall.look(), lambda hall: hall.queue.admit("b2")):
            hall = Hall(self._lab, {"red": 1}, sale={"hold_ttl_ms": 500})
            hall.crowd(2)
            hall.queue.admit("b1")
            assert _hold(hall, "b1") is Outcome.HELD
            self._lab.set_time(hall.sale, T0 + 500)
            move(hall)
            assert hall.fields("serving") == [2]

    def numbers_are_fixed_at_the_opening(self) -> None:
        hall = Hall(self._lab, opens_at_ms=OPENING)
        hall.crowd(3)
        seed = "ab" * 32
        assert self._lab.eval("waiting_room/reveal", hall.sale, seed)[2] == b"N"
        assert hall.look(OPENING - 1).present is None
        self._lab.set_time(hall.sale, OPENING)  # and the client's view is of before
        assert hall.queue.join("late").number == 4
        assert hall.look().present == 3
        own = hall.look().seed
        self._lab.eval("waiting_room/reveal", hall.sale, seed)
        assert hall.look().seed == own != seed

    def a_room_is_opened_once(self) -> None:
        hall = Hall(self._lab)
        hall.join("ann")
        hall.queue.open(hall.room)
        assert hall.look().joined == 1
        with pytest.raises(Rejected):
            hall.queue.open(msgspec.structs.replace(hall.room, margin=0.5))
        remains = self._lab.open()
        self._lab.raw.hset(places_key(remains.id, 0), "ann", 7)
        with pytest.raises(ProtocolError, match="FLASHSALE_REMAINS"):
            remains.queue.open(hall.room)


def _hold(hall: Hall, buyer: str, hold_id: str = "h", basket: Any = None, key: str = "") -> Outcome:
    return hall.sale.hold(buyer, basket or ONE, hold_id=hold_id, key=key).outcome


def _counted(hall: Hall) -> list[int]:
    return hall.fields(*(f"{SLOT_OF_T0}{letter}" for letter in "adu"))
