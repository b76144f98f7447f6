"""Who may use which connection: first come, first served, bounded, and nothing is ever lost."""

from __future__ import annotations

import time
from typing import Any

import pytest

from flashsale import pools
from flashsale.guards import Guard
from flashsale.pools import CONNECTING_MAX, WAITING_MAX, WAITING_PER_S, Lease, Pool
from support.tracing import Tracer, at_every_line


class Noted(Lease, eq=False):
    """A lease that counts how often it rang."""

    rings: int = 0

    def ring(self) -> None:
        self.rings += 1


def lease(seconds: float = 60.0, **options: Any) -> Noted:
    return Noted(time.monotonic() + seconds, **options)


def lent(pool: Pool, seconds: float = 60.0) -> Noted:
    """One that is served at once."""
    one = lease(seconds)
    assert pool.ask(one)
    assert one.served
    return one


def connected(pool: Pool, name: str) -> Noted:
    """One that has made a connection of that name, on which nothing is owed."""
    one = lent(pool)
    assert one.connection is None
    one.connection = name
    pool.connected(one)
    return one


def asked(pool: Pool, **options: Any) -> Noted:
    one = lease(**options)
    assert pool.ask(one)
    return one


def test_who_waits_is_served_in_the_order_of_coming_and_passed_by_nobody() -> None:
    pool = Pool(1)
    first = connected(pool, "a")
    waiting = [asked(pool) for _ in range(3)]
    assert not pool.ask_once(lease())
    pool.give_back(first)
    last = asked(pool)
    for one in [*waiting, last]:
        assert (one.served, one.rings, one.connection) == (True, 1, "a")
        assert not pool.ask_once(lease())
        assert pool.give_back(one) is None
    assert pool.ask_once(lease())


def test_who_was_served_before_and_got_no_answer_has_its_place_before_those_who_come() -> None:
    pool = Pool(1)
    first, waits = connected(pool, "a"), asked(pool)
    again = asked(pool, first=True)
    pool.give_back(first)
    assert (again.served, waits.served) == (True, False)


def test_a_connection_comes_back_only_if_no_reply_is_owed_on_it() -> None:
    pool = Pool(1)
    one = connected(pool, "a")
    one.clean = False
    assert pool.give_back(one) == "a"
    assert lent(pool).connection is None


def test_what_failed_to_connect_does_not_come_back() -> None:
    pool = Pool(1)
    one = lent(pool)
    one.connection = "half made"
    assert pool.give_back(one) == "half made"
    assert lent(pool).connection is None


def test_what_is_connected_is_preferred() -> None:
    pool = Pool(9)
    pool.give_back(connected(pool, "a"))
    assert lent(pool).connection == "a"


def test_giving_back_twice_makes_none_more() -> None:
    pool = Pool(1)
    one = connected(pool, "a")
    assert pool.give_back(one) is None
    assert pool.give_back(one) is None
    assert lent(pool).connection == "a"
    assert not pool.ask_once(lease())


def test_only_a_few_connections_are_made_at_once_the_others_wait_for_what_comes_first() -> None:
    pool = Pool(100)
    leases = [asked(pool) for _ in range(2 * CONNECTING_MAX)]
    assert [one.served for one in leases] == [True] * CONNECTING_MAX + [False] * CONNECTING_MAX
    leases[0].connection = "a"
    pool.connected(leases[0])  # another one may be made
    assert (leases[CONNECTING_MAX].served, leases[CONNECTING_MAX].connection) == (True, None)
    pool.give_back(leases[0])
    assert (leases[CONNECTING_MAX + 1].served, leases[CONNECTING_MAX + 1].connection) == (True, "a")


def test_who_is_refused_a_connection_waits_first_of_all_for_one_of_those_there_are() -> None:
    pool = Pool(3)
    holder, tries, waits = connected(pool, "a"), lent(pool), asked(pool)
    pool.give_back(waits)
    assert pool.refused(tries)
    waits = asked(pool)
    assert (tries.served, waits.served) == (False, False)
    pool.give_back(holder)
    assert (tries.served, tries.connection, waits.served) == (True, "a", False)


def test_who_is_refused_together_keeps_the_order_of_coming_whoever_is_refused_first() -> None:
    pool = Pool(5)
    holder, tries = connected(pool, "a"), [lent(pool) for _ in range(4)]
    waits = asked(pool)
    for one in [tries[0], tries[2], tries[1], tries[3]]:
        assert pool.refused(one)
    before = asked(pool, first=True)
    pool.give_back(holder)
    for one in [before, *tries, waits]:
        assert (one.served, one.connection) == (True, "a")
        pool.give_back(one)


def test_who_was_served_before_and_comes_again_together_keeps_the_order_of_coming() -> None:
    pool = Pool(1)
    holder, waits = connected(pool, "a"), asked(pool)
    again = [asked(pool, first=True) for _ in range(3)]
    pool.give_back(holder)
    for one in [*again, waits]:
        assert one.served
        pool.give_back(one)


def test_who_never_waited_and_is_refused_does_not_pass_who_came_before() -> None:
    pool = Pool(3)
    holder, before, tries = connected(pool, "a"), lent(pool), lease()
    assert pool.ask_once(tries)
    assert pool.refused(before)
    assert pool.refused(tries)
    pool.give_back(holder)
    assert (before.served, tries.served) == (True, False)


def test_a_refusal_bounds_the_client_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "REFUSED_S", 0.0)
    pool = Pool(3)
    holder, tries = connected(pool, "a"), lent(pool)
    assert pool.refused(tries)
    assert (tries.served, tries.connection) == (True, None)
    assert holder.connection == "a"


def test_a_refusal_is_final_where_there_is_no_other_connection() -> None:
    pool = Pool(3)
    assert not pool.refused(lent(pool))


def test_with_the_last_connection_lost_one_at_a_time_is_tried_again() -> None:
    pool = Pool(9)
    holder, tries = connected(pool, "a"), lent(pool)
    assert pool.refused(tries)
    waits = asked(pool)
    holder.clean = False
    pool.give_back(holder)
    assert (tries.served, tries.connection, waits.served) == (True, None, False)
    tries.connection = "b"
    pool.connected(tries)
    assert waits.served


@pytest.mark.parametrize(("seconds", "most"), [(2.0, 2 * WAITING_PER_S), (600.0, WAITING_MAX)])
def test_single_calls_wait_in_bounded_number_and_no_more_than_are_served_in_time(
    seconds: float, most: int
) -> None:
    pool = Pool(1)
    connected(pool, "a")
    count = 0
    while pool.ask(lease(seconds, alone=True)):
        count += 1
    assert most - WAITING_PER_S <= count <= most  # a busy machine takes a while to ask so often
    assert not pool.has_room(time.monotonic() + seconds)
    assert pool.ask(lease(seconds))  # a batch of many calls: they were counted elsewhere
    assert pool.ask(lease(seconds, alone=True, first=True))  # who was served before


def test_as_many_may_wait_as_there_are_connections_however_short_their_time() -> None:
    pool = Pool(2)
    connected(pool, "a")
    connected(pool, "b")
    ends = [pool.ask(lease(0.0005, alone=True)) for _ in range(3)]
    assert ends == [True, True, False]


def test_what_is_lent_past_its_deadline_is_not_waited_for() -> None:
    pool = Pool(1)
    late = lent(pool, seconds=-1.0)
    waits = asked(pool)
    assert waits.served
    late.connection, late.clean = "a", True
    assert pool.give_back(late) == "a"  # whoever comes with it after all: it is closed


def test_after_a_change_of_servers_nothing_of_before_is_used() -> None:
    pool = Pool(3)
    idle, busy = connected(pool, "a"), connected(pool, "b")
    pool.give_back(idle)
    assert pool.forget() == ["a"]
    assert pool.give_back(busy) == "b"
    assert lent(pool).connection is None


def test_a_retired_pool_wakes_who_waits_and_keeps_nothing() -> None:
    pool = Pool(1)
    busy, waits = connected(pool, "a"), asked(pool)
    assert pool.retire() == ["a"]
    assert waits.rings == 1
    assert pool.give_back(busy) == "a"


@pytest.mark.parametrize("way", ["kept", "closed", "refused", "forgotten", "waits in vain"])
def test_an_exception_at_any_line_loses_no_place_and_mixes_up_no_connection(way: str) -> None:
    """At the latest when the lease is over; as the blocking client uses a pool."""
    pool = Pool(2)
    run = Guard(pool.serve).run
    other = one = lease()

    def prepare() -> None:
        nonlocal pool, run, other, one
        pool = Pool(2)
        run = Guard(pool.serve).run
        other, one = connected(pool, "other"), lease(seconds=0.0)
        if way == "waits in vain":
            lent(pool)

    def use() -> None:
        try:
            run(pool.ask, one)
            if not one.served:
                return
            one.connection = "one"
            if way == "refused":
                run(pool.refused, one)
                return
            run(pool.connected, one)
            if way == "forgotten":
                run(pool.forget)
            one.clean = way == "kept"
        finally:
            run(pool.give_back, one)

    def check(tracer: Tracer) -> None:
        run(pool.give_back, one)  # as often as one likes
        pool._looked_at = 0.0
        pool._refused_until = 0.0
        run(pool.give_back, other)
        last = [lease() for _ in range(3)]
        assert [run(pool.ask, each) for each in last] == [True] * 3
        served = [each for each in last if each.served]
        wanted = 1 if way == "waits in vain" else 2
        assert len(served) == wanted, tracer.where
        names = [each.connection for each in served if each.connection is not None]
        assert len(names) == len(set(names)), tracer.where
        assert all(each.clean for each in served if each.connection), tracer.where

    assert at_every_line(use, check, prepare) > 10
