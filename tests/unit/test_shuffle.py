"""The order of those who were there at the opening: a permutation, a fair one, on both sides."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from flashsale import shuffle
from flashsale.embedded import EmbeddedServer
from flashsale.scripts import lua_folder

SMALLEST_P = 1e-6
"""Of a test that is made once, with seeds that are always the same: a fair draw never fails it."""

SEEDS = st.binary(min_size=32, max_size=32).map(bytes.hex)


def seed(number: int) -> str:
    return shuffle.make_seed(number.to_bytes(32, "big"), "1111")


def order(key: str, present: int) -> tuple[int, ...]:
    """The places of all numbers."""
    return tuple(shuffle.place_of(key, present, number) for number in range(1, present + 1))


def inverse(key: str, present: int, place: int) -> int:
    """The number of a place: the network run backwards, written anew from its definition."""
    above = itertools.count(2 * max(1, int(present**0.5 - 2) // 2), 2)
    side = next(even for even in above if even * even >= present)
    value = place - 1
    while True:
        left, right = divmod(value, side)
        for at in range(shuffle.ROUNDS, 0, -1):
            digest = shuffle.hashlib.sha1(f"{key}:{at}:{left}".encode()).hexdigest()
            left, right = (right - int(digest[:10], 16)) % side, left
        value = left * side + right
        if value < present:
            return value + 1


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--long", default=False))


# --- a permutation ------------------------------------------------------------------------


@pytest.mark.parametrize("hundred", range(2))
def test_every_place_is_given_once_for_every_size_up_to_a_few_hundred(hundred: int) -> None:
    for present in range(100 * hundred + 1, 100 * hundred + 101):
        assert sorted(order(seed(present), present)) == list(range(1, present + 1))


@given(SEEDS, st.integers(1, 10**8), st.data())
def test_in_a_large_crowd_no_two_have_one_place_and_every_place_has_its_number(
    key: str, present: int, data: st.DataObject
) -> None:
    numbers = data.draw(st.lists(st.integers(1, present), min_size=1, max_size=30, unique=True))
    places = [shuffle.place_of(key, present, number) for number in numbers]
    assert len(set(places)) == len(numbers)
    assert all(1 <= place <= present for place in places)
    assert [inverse(key, present, place) for place in places] == numbers


@pytest.mark.parametrize("side", [2, 3, 10, 17, 50])
def test_around_a_square_every_place_is_given_once(side: int) -> None:
    for present in (side * side - 1, side * side, side * side + 1):
        assert sorted(order(seed(side), present)) == list(range(1, present + 1))


@given(SEEDS, st.integers(0, 10**8), st.integers(1, 10**8))
def test_who_came_after_the_opening_stands_behind_in_the_order_of_coming(
    key: str, present: int, after: int
) -> None:
    assert shuffle.place_of(key, present, present + after) == present + after


def test_the_same_seed_gives_the_same_order_and_another_another() -> None:
    assert order(seed(1), 50) == order(seed(1), 50)
    assert len({order(seed(n), 50) for n in range(100)}) == 100


# --- a fair one ---------------------------------------------------------------------------


@pytest.mark.parametrize(("present", "number"), [(10, 1), (10, 10), (97, 1), (100, 50)])
def test_the_place_of_a_number_is_uniform_over_seeds(present: int, number: int, long: bool) -> None:
    draws = 20_000 if long else 1_500
    counts = Counter(shuffle.place_of(seed(n), present, number) for n in range(draws))
    observed = [counts[place] for place in range(1, present + 1)]
    assert stats.chisquare(observed).pvalue > SMALLEST_P


def test_coming_early_or_late_before_the_opening_makes_no_difference(long: bool) -> None:
    # The tenth that is called first, by tenths of the order of coming.
    present, draws = 100, 400 if long else 40
    first: Counter[int] = Counter()
    for n in range(draws):
        places = order(seed(n), present)
        first.update(number * 10 // present for number, place in enumerate(places) if place <= 10)
    assert stats.chisquare([first[tenth] for tenth in range(10)]).pvalue > SMALLEST_P


@pytest.mark.parametrize("present", [2, 3, 4, 5])
def test_every_order_of_a_few_is_equally_likely(present: int, long: bool) -> None:
    draws = 100_000 if long else 500 * present
    counts = Counter(order(seed(n), present) for n in range(draws))
    orders = list(itertools.permutations(range(1, present + 1)))
    assert set(counts) == set(orders)
    assert stats.chisquare([counts[one] for one in orders]).pvalue > SMALLEST_P


@pytest.mark.parametrize("present", [6, 9, 17])
def test_the_places_of_two_are_uniform_together(present: int, long: bool) -> None:
    draws = 60_000 if long else 2_000
    pairs = Counter(
        (shuffle.place_of(seed(n), present, 1), shuffle.place_of(seed(n), present, 2))
        for n in range(draws)
    )
    observed = [pairs[pair] for pair in itertools.permutations(range(1, present + 1), 2)]
    assert sum(observed) == draws
    assert stats.chisquare(observed).pvalue > SMALLEST_P


# --- the same on both sides ---------------------------------------------------------------


@pytest.fixture(scope="module")
def client() -> Iterator[redis.Redis]:
    with EmbeddedServer.start() as server, redis.Redis.from_url(server.url) as client:
        yield client


def lua_places(client: redis.Redis, key: str, present: int, numbers: list[int]) -> list[int]:
    """By the server's functions, and back again."""
    parts = [
        (lua_folder() / f"lib/{name}_of.lua").read_text("utf-8") for name in ("place", "number")
    ]
    end = """
local seed, present, places, numbers = ARGV[1], tonumber(ARGV[2]), {}, {}
for k = 3, #ARGV do
  places[k - 2] = place_of(seed, present, tonumber(ARGV[k]))
  numbers[k - 2] = number_of(seed, present, places[k - 2])
end
return { places, numbers }
"""
    found: Any = client.eval("\n".join([*parts, end]), 0, key, present, *numbers)
    places: list[int] = found[0]
    assert found[1] == numbers
    return places


def test_lua_gives_the_same_places_for_every_small_crowd(client: redis.Redis) -> None:
    for present in range(1, 41):
        numbers = list(range(1, present + 3))
        expected = [shuffle.place_of(seed(present), present, number) for number in numbers]
        assert lua_places(client, seed(present), present, numbers) == expected


@settings(deadline=None)
@given(
    SEEDS,
    st.integers(1, 10**8),
    st.lists(st.integers(1, 10**8), min_size=1, max_size=20),
)
def test_lua_gives_the_same_places_in_any_crowd(
    client: redis.Redis, key: str, present: int, numbers: list[int]
) -> None:
    expected = [shuffle.place_of(key, present, number) for number in numbers]
    assert lua_places(client, key, present, numbers) == expected


@pytest.mark.parametrize("present", [1, 2, 3, 4, 10**4, 10**4 + 1, 99_980_001, 10**8])
def test_lua_gives_the_same_places_at_the_edges(client: redis.Redis, present: int) -> None:
    numbers = sorted({1, 2, present // 2 + 1, max(1, present - 1), present, present + 1})
    expected = [shuffle.place_of(seed(7), present, number) for number in numbers]
    assert lua_places(client, seed(7), present, numbers) == expected


# --- the seed -----------------------------------------------------------------------------


def test_a_seed_is_checked_against_what_was_published_of_it_for_its_sale() -> None:
    own = shuffle.make_seed(bytes(32), "1111")
    commitment = shuffle.commitment_of(own, "1111")
    assert shuffle.check_seed(own, commitment, "1111")
    assert not shuffle.check_seed(own, commitment, "2222")
    assert not shuffle.check_seed(shuffle.make_seed(bytes(32), "2222"), commitment, "1111")
    assert not shuffle.check_seed(shuffle.make_seed(b"x" * 32, "1111"), commitment, "1111")
    assert len(own) == len(commitment) == 64
    assert own not in commitment


def test_a_rooms_seed_has_nothing_of_that_of_a_cue() -> None:
    from flashsale import draw
    from flashsale.keyring import Key

    key = Key("k", bytes(32))
    assert draw.server_seed(key, "1111", "1111", b"").hex() != shuffle.make_seed(key.secret, "1111")
