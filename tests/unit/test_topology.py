"""What a client knows of its servers: the map, its corrections, and whom to ask for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from flashsale.keys import ShardKeys
from flashsale.topology import SLOTS, Address, Topology, slot_of

A, B, C, D = (("10.0.0.1", 1), ("10.0.0.2", 2), ("10.0.0.3", 3), ("10.0.0.4", 4))


def ranges(*owners: tuple[int, int, Sequence[Address]]) -> list[list[Any]]:
    """A reply of CLUSTER SLOTS: first, last, the primary and its replicas."""
    return [
        [first, last, *([host.encode(), port, b"id", []] for host, port in nodes)]
        for first, last, nodes in owners
    ]


HALVES = ranges((0, 8_191, [A, C]), (8_192, SLOTS - 1, [B]))


@pytest.fixture
def cluster() -> Topology:
    topology = Topology([A])
    topology.learn(HALVES, A)
    return topology


def test_outside_a_cluster_every_slot_is_the_given_servers() -> None:
    topology = Topology()
    assert topology.is_cluster is None
    assert topology.owner_of(None) is topology.owner_of(7) is None
    topology.not_reached(None)
    assert not topology.is_stale
    assert topology.who_to_ask() is None


def test_all_keys_of_a_shard_have_one_slot() -> None:
    keys = ShardKeys.of("1111")
    assert {slot_of(getattr(keys, name)) for name in keys.__struct_fields__} == {slot_of(keys.sale)}
    assert 0 <= slot_of(keys.sale) < SLOTS


def test_a_sales_server_is_the_node_of_its_slot_once_the_map_is_known(cluster: Topology) -> None:
    key = ShardKeys.of("1111").sale
    assert cluster.server_of("1111") == cluster.owner_of(slot_of(key)) in (A, B)
    cluster.moved(slot_of(key), D, A)
    assert cluster.server_of("1111") == D
    assert Topology([A]).server_of("1111") is None
    assert Topology().server_of("1111") is None


def test_the_map_is_wanted_until_it_is_learnt() -> None:
    topology = Topology([A, B])
    assert (topology.is_cluster, topology.is_stale, topology.who_to_ask()) == (True, True, A)
    assert topology.owner_of(0) is None
    topology.learn(HALVES, A)
    assert not topology.is_stale
    assert [topology.owner_of(slot) for slot in (0, 8_191, 8_192, SLOTS - 1)] == [A, A, B, B]


def test_a_server_found_to_be_a_node_is_asked_for_the_map() -> None:
    topology = Topology()
    topology.found_cluster()
    assert (topology.is_stale, topology.who_to_ask()) == (True, None)


def test_a_move_corrects_one_slot(cluster: Topology) -> None:
    cluster.moved(5, D, A)
    assert [cluster.owner_of(slot) for slot in (4, 5, 6)] == [A, D, A]
    assert not cluster.is_stale


@pytest.mark.parametrize("host", ["", "?"])
def test_a_host_left_open_is_that_of_the_node_that_answered(host: str, cluster: Topology) -> None:
    cluster.moved(5, (host, 9), B)
    assert cluster.owner_of(5) == (B[0], 9)
    assert cluster.redirect((host, 9), A) == (A[0], 9)
    cluster.learn(ranges((0, SLOTS - 1, [(host, 9)])), C)
    assert cluster.owner_of(5) == (C[0], 9)


def test_addresses_are_translated_wherever_they_come_from() -> None:
    topology = Topology([A], lambda address: ("localhost", address[1]))
    topology.learn(HALVES, A)
    assert topology.owner_of(0) == ("localhost", 1)
    topology.moved(0, D, A)
    assert topology.owner_of(0) == ("localhost", 4)
    assert topology.redirect(C, A) == ("localhost", 3)


def test_a_node_that_is_not_reached_makes_the_map_stale_and_is_asked_last(
    cluster: Topology,
) -> None:
    asked = []
    for _ in range(4):
        asked.append(cluster.who_to_ask())
        cluster.not_reached(cluster.who_to_ask())
        assert cluster.is_stale
    assert asked == [A, C, B, A]


def test_the_node_that_answered_is_asked_first_next_time(cluster: Topology) -> None:
    cluster.not_reached(A)
    cluster.learn(HALVES, B)
    assert cluster.who_to_ask() == B
    cluster.not_reached(B)
    assert cluster.who_to_ask() == A


def test_what_the_client_was_given_is_asked_when_all_others_are_gone() -> None:
    topology = Topology()
    topology.found_cluster()
    for nodes in (HALVES, ranges((0, SLOTS - 1, [C, D]))):
        topology.learn(nodes, None)
    for address in (C, D):
        assert topology.who_to_ask() == address
        topology.not_reached(address)
    assert topology.who_to_ask() is None


def test_nodes_that_left_are_forgotten(cluster: Topology) -> None:
    for port in range(100, 200):
        cluster.learn(ranges((0, SLOTS - 1, [("10.0.0.9", port)])), A)
    asked = set()
    for _ in range(10):
        asked.add(cluster.who_to_ask())
        cluster.not_reached(cluster.who_to_ask())
    assert asked == {("10.0.0.9", 199), A}


def test_the_nodes_of_the_map_and_the_given_ones_are_known(cluster: Topology) -> None:
    assert [cluster.knows(address) for address in (None, A, B, C, D)] == [True] * 4 + [False]
    cluster.learn(ranges((0, SLOTS - 1, [D])), D)
    assert [cluster.knows(address) for address in (None, A, B, C, D)] == [
        True, True, False, False, True
    ]  # fmt: skip


def test_an_empty_map_changes_nothing(cluster: Topology) -> None:
    cluster.not_reached(B)
    cluster.learn([], A)
    assert cluster.is_stale
    assert cluster.owner_of(SLOTS - 1) == B
