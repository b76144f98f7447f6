"""A waiting room on a cluster: all its keys live in the slot of their sale, on any node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from faults.checks import books_are_right
from flashsale import FlashSale, JoinRequest, Outcome, Rejected, Sale, Sku, WaitingRoom, limits
from flashsale.keys import ShardKeys, places_key
from support.cluster import PRIMARIES, Cluster
from support.cues import KEY

ROOM = WaitingRoom(
    rate_per_s=1_000_000,
    conversion=1,
    margin=0,
    key_places_max=30,
    places_max=3 * limits.PLACES_PER_HASH,
)


def call_all(queue: Any, count: int) -> None:
    """Let so many be called: however slow the machine, at some moment they are."""
    for _ in range(1_000):
        if queue.view().serving >= count:
            return
    raise AssertionError("nobody is called")


@pytest.mark.parametrize("owner", range(PRIMARIES))
def test_a_room_is_joined_let_in_and_sold_out_on_every_node(
    owner: int,
    cluster: Cluster,
    raw: Any,
    connect: Callable[..., FlashSale],
    id_on: Callable[..., str],
) -> None:
    shop = connect(cluster.url, timeout_ms=20_000, keys=[KEY])
    rules: dict[str, Any] = {"admission": True, "key_holds_max": 30}
    sale = shop.open(Sale(id_on(cluster, cluster.nodes[owner]), [Sku("red", 4)], **rules))
    queue = sale.queue
    queue.open(ROOM)
    requests = [JoinRequest(f"buyer-{n}", "phone") for n in range(20)]
    joined: list[Any] = queue.join_many(requests)
    assert sorted(answer.number for answer in joined) == list(range(1, 21))
    call_all(queue, 4)
    for answer in joined[:4]:
        admitted = queue.admit(answer.buyer, answer.ticket)
        assert admitted.outcome is Outcome.ADMITTED
        held = sale.hold(answer.buyer, {"red": 1}, hold_id="h", key="phone").unwrap()
        sale.confirm(held).unwrap()
    last = joined[19]
    assert queue.admit(last.buyer, last.ticket).outcome is Outcome.WAITING
    assert sale.hold(last.buyer, {"red": 1}, hold_id="h").outcome is Outcome.NOT_ADMITTED
    assert queue.leave(last.buyer).outcome is Outcome.LEFT
    view = queue.view()
    assert (view.joined, view.arrived, view.left, view.sold, view.gone) == (20, 4, 1, 4, True)
    assert books_are_right(sale).skus["red"].sold == 4

    own = ShardKeys.of(sale.id)
    names = [own.sale, own.room, own.admitted, own.caps]
    names += [places_key(sale.id, number) for number in range(ROOM.hashes)]
    assert all(raw.exists(name) for name in names)
    assert {cluster.owner_of(name) for name in names} == {cluster.nodes[owner]}

    sale.end()
    assert sale.purge().outcome is Outcome.PURGED
    assert [name for name in names if raw.exists(name)] == [own.sale]
    with pytest.raises(Rejected):
        queue.view()


def test_a_node_that_forgot_its_scripts_is_taught_those_of_the_room(
    cluster: Cluster, connect: Callable[..., FlashSale], id_on: Callable[..., str]
) -> None:
    shop = connect(cluster.url, timeout_ms=20_000, keys=[KEY])
    node = cluster.nodes[1]
    queue = shop.open(Sale(id_on(cluster, node), [Sku("red", 4)], admission=True)).queue
    for step in (
        lambda: queue.open(ROOM),
        lambda: queue.join("ann"),
        lambda: queue.view(),
        lambda: queue.admit("ann"),
        lambda: queue.leave("ann"),
        lambda: queue.pause(),
    ):
        cluster.flush_scripts(node)
        step()
    view = queue.view()
    assert (view.joined, view.arrived, view.left) == (1, 1, 1)
