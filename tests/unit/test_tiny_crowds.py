"""The lot of a tiny crowd: every order exactly up to four people, sampled up to eight.

The network is written anew, over round functions that are truly random: what is shown is that it
has rounds enough, whatever the hash.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from math import factorial, isqrt, sqrt

import numpy as np
import pytest

from flashsale import shuffle

Order = tuple[int, ...]


def side_of(present: int) -> int:
    side = isqrt(present - 1) + 1
    return side + side % 2


def orders_walked(domain: Sequence[int], present: int) -> Order:
    """The order of those present by a permutation of the network's whole domain."""

    def walk(value: int) -> int:
        value = domain[value]
        while value >= present:
            value = domain[value]
        return value

    return tuple(walk(value) for value in range(present))


def round_over(domain: Order, side: int, function: Callable[[int], int]) -> Order:
    return tuple(
        value % side * side + (value // side + function(value % side)) % side for value in domain
    )


@pytest.mark.parametrize("present", range(1, 9))
def test_the_network_of_these_tests_is_that_of_the_lot(present: int) -> None:
    seed, side = shuffle.make_seed(bytes(32), f"of-{present}"), side_of(present)
    domain: Order = tuple(range(side * side))
    for at in range(1, shuffle.ROUNDS + 1):

        def function(digit: int, at: int = at) -> int:
            digest = hashlib.sha1(f"{seed}:{at}:{digit}".encode()).hexdigest()
            return int(digest[:10], 16) % side

        domain = round_over(domain, side, function)
    expected = tuple(shuffle.place_of(seed, present, n) - 1 for n in range(1, present + 1))
    assert orders_walked(domain, present) == expected


@pytest.mark.parametrize(
    ("present", "most"), [(2, 0), (3, Fraction(1, 2**14)), (4, Fraction(1, 2**12))]
)
def test_of_up_to_four_no_order_is_likelier_than_that(present: int, most: Fraction | int) -> None:
    """Exact: all 2^28 round functions, by how often each permutation of the four comes about."""
    found: Counter[Order] = Counter({(0, 1, 2, 3): 1})
    functions = [pair.__getitem__ for pair in itertools.product(range(2), repeat=2)]
    for _ in range(shuffle.ROUNDS):
        after: Counter[Order] = Counter()
        for domain, ways in found.items():
            for function in functions:
                after[round_over(domain, 2, function)] += ways
        found = after
    orders: Counter[Order] = Counter()
    for domain, ways in found.items():
        orders[orders_walked(domain, present)] += ways
    assert set(orders) == set(itertools.permutations(range(present)))
    shares = [Fraction(ways * factorial(present), 4**shuffle.ROUNDS) for ways in orders.values()]
    assert max(abs(share - 1) for share in shares) == most


@pytest.mark.parametrize("present", [5, 6, 7, 8])
def test_of_five_to_eight_every_order_comes_as_often_as_any(
    present: int, request: pytest.FixtureRequest
) -> None:
    draws = 5_000_000 if request.config.getoption("--long", default=False) else 200_000
    random, counts = np.random.default_rng(present), np.zeros(8**present, np.int64)
    for _ in range(draws // 100_000):
        places = sample(present, 100_000, random)
        counts += np.bincount(places @ 8 ** np.arange(present), minlength=8**present)
    orders = [
        sum(place * 8**at for at, place in enumerate(order))
        for order in itertools.permutations(range(present))
    ]
    assert counts[orders].sum() == draws
    expected, free = draws / len(orders), len(orders) - 1
    chi_square = float(((counts[orders] - expected) ** 2).sum() / expected)
    assert abs(chi_square - free) < 5 * sqrt(2 * free)


def sample(present: int, draws: int, random: np.random.Generator) -> np.ndarray:
    """So many orders, a row each, by round functions drawn at random."""
    side, which = side_of(present), np.arange(draws)
    functions = random.integers(0, side, size=(draws, shuffle.ROUNDS, side), dtype=np.int64)
    domain = np.empty((draws, side * side), np.int64)
    for value in range(side * side):
        left, right = np.full(draws, value // side), np.full(draws, value % side)
        for at in range(shuffle.ROUNDS):
            left, right = right, (left + functions[which, at, right]) % side
        domain[:, value] = left * side + right
    places = domain[:, :present].copy()
    while (outside := places >= present).any():
        rows, columns = np.nonzero(outside)
        places[rows, columns] = domain[rows, places[rows, columns]]
    return places
