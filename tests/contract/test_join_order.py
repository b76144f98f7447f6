"""A batch of joins travels hash by hash; its numbers follow its own order all the same."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import redis

from flashsale import JoinRequest, Key, SaleHandle, WaitingRoom, waiting_room
from flashsale.keyring import Keyring
from flashsale.keys import ShardKeys, places_key
from flashsale.scripts import load_script
from support.lab import Lab

encode = msgspec.msgpack.encode
ROOM = WaitingRoom(rate_per_s=1, places_max=10_000_000)
CREW = [f"buyer-{n}" for n in range(300)]


@pytest.fixture
def sale(lab: Lab) -> SaleHandle:
    """A sale whose waiting room spreads its places over many hashes."""
    handle = lab.open()
    lab.shop.perform(waiting_room._open(handle.id, ROOM, Key("k", bytes(32))))
    assert ROOM.hashes > 20
    return handle


def join(lab: Lab, sale: SaleHandle, requests: list[JoinRequest]) -> list[tuple[int, bool]]:
    """The numbers told, and whether each was there before."""
    seen = lab.shop.perform(waiting_room.look(sale.id, Keyring([])))
    answers = lab.shop.perform(waiting_room.join_many(seen.view, requests))
    assert all(isinstance(answer, waiting_room.Placed) for answer in answers)
    return [(answer.number, answer.replayed) for answer in answers]


def test_numbers_follow_the_order_of_the_requests_over_all_hashes(
    lab: Lab, sale: SaleHandle
) -> None:
    assert join(lab, sale, [JoinRequest(b) for b in CREW]) == [(n, False) for n in range(1, 301)]
    again = join(lab, sale, [JoinRequest(b) for b in reversed(CREW)])
    assert again == [(n, True) for n in range(300, 0, -1)]


def test_known_and_unknown_buyers_and_one_who_comes_twice_share_a_batch(
    lab: Lab, sale: SaleHandle
) -> None:
    who = ["ann", "bob", "ann", "cid"]
    assert join(lab, sale, [JoinRequest(b) for b in who]) == [
        (1, False), (2, False), (1, True), (3, False),
    ]  # fmt: skip
    who = ["dan", "bob", "eve", "dan"]
    assert join(lab, sale, [JoinRequest(b) for b in who]) == [
        (4, False), (2, True), (5, False), (4, True),
    ]  # fmt: skip


def test_the_first_who_join_make_tables_of_their_hashes(lab: Lab, sale: SaleHandle) -> None:
    """A listpack would be searched from end to end for each of the first few hundred of a hash."""
    join(lab, sale, [JoinRequest(b) for b in CREW])
    keys = [places_key(sale.id, number) for number in range(ROOM.hashes)]
    kinds = {lab.raw.object("encoding", key) for key in keys if lab.raw.exists(key)}
    assert kinds == {b"hashtable"}
    numbers = sorted(int(n) for key in keys for n in lab.raw.hvals(key))
    assert numbers == list(range(1, 301))


BAD_ORDERS: list[Any] = [
    [],
    [[2]],
    [[], []],
    [[1], [1, 2]],
    [[3], [1, 2]],
    [[1, 1], [1, 1]],
    [[1, 1], [1, 3]],
    [[1, 1], [0, 1]],
    [[1, 1], [1.5, 1]],
    [[1, 1], ["1", 2]],
    [[1, 1], ["1", "2"]],
    [[1, 1], [True, 2]],
    [[1, 1], [float("nan"), 2]],
    [[1, 1], [2**53, 2]],
    [[0.5, 1.5], [1, 2]],
    [[-1, 3], [1, 2]],
    [[0, 2], [1, 2]],
    [[float("nan"), 2], [1, 2]],
    [["1", "1"], [1, 2]],
    [[1, 1, 0], [1, 2]],
]


@pytest.mark.parametrize("order", BAD_ORDERS, ids=repr)
def test_an_order_that_is_none_is_refused_and_nothing_is_written(
    lab: Lab, sale: SaleHandle, order: Any
) -> None:
    keys = ShardKeys.of(sale.id)
    places = [places_key(sale.id, number) for number in (0, 1)]
    before = [lab.raw.hgetall(key) for key in (keys.sale, keys.room, *places)]
    script = load_script("waiting_room/join").source
    used = (keys.sale, keys.room, keys.vacant, *places)
    args = ("0", encode(["ann", "bob"]), encode(order), b"")
    try:
        reply: Any = lab.raw.eval(script, len(used), *used, *args)
        assert reply[3] == b"!"
    except redis.ResponseError:
        pass
    assert [lab.raw.hgetall(key) for key in (keys.sale, keys.room, *places)] == before
