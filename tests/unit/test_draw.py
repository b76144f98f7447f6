"""The draw is a pure function of entrants and seed, and gives everybody in a window one chance."""

from __future__ import annotations

import hashlib
import hmac
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashsale import InvalidRequest, draw, verify
from flashsale.draw import Award, Entry
from flashsale.keyring import Key
from flashsale.testing import LocalEntropy
from flashsale.verify import Lot, Wish
from support.draws import (
    CUE_TIME_MS,
    FRESH,
    KEY,
    SALT,
    VALUE,
    crowd,
    cue_of,
    drawn_of,
    frozen_of,
    held,
    public_cue,
    record_of,
    seed_of,
)

SKUS = ("lipstick", "mug", "scarf")


@st.composite
def wishes(draw_from: st.DrawFn) -> Wish:
    skus = draw_from(st.lists(st.sampled_from(SKUS), min_size=1, max_size=3, unique=True))
    lines = []
    for sku in sorted(skus):
        units = draw_from(st.integers(1, 6))
        lines.append((sku, units, draw_from(st.integers(1, units))))
    return tuple(lines)


@st.composite
def entries(draw_from: st.DrawFn) -> list[Entry]:
    """One entry a buyer."""
    told = draw_from(st.lists(st.tuples(st.integers(0, 2), wishes()), max_size=25))
    return [(f"buyer-{at}", window, wish) for at, (window, wish) in enumerate(told)]


stocks = st.fixed_dictionaries(dict.fromkeys(SKUS, st.integers(1, 12)))


# --- who wins -----------------------------------------------------------------------------


@given(entries(), stocks, st.randoms(use_true_random=False), st.data())
def test_order_and_repetition_of_entries_change_nothing(
    told: list[Entry], stock: dict[str, int], chance: random.Random, data: st.DataObject
) -> None:
    cue = cue_of(stock=stock, windows=3)
    later = data.draw(st.lists(st.sampled_from(told))) if told else []
    worse = [(buyer, window + 1, wish) for buyer, window, wish in later if window < 2]
    again = [*told, *later, *worse]
    chance.shuffle(again)
    assert record_of(drawn_of(cue, again)) == record_of(drawn_of(cue, told))


@given(st.lists(st.tuples(st.integers(0, 2), wishes()), min_size=1), st.randoms())
def test_what_counts_of_a_buyer_does_not_depend_on_what_came_first(
    taps: list[tuple[int, Wish]], chance: random.Random
) -> None:
    cue = cue_of(stock=dict.fromkeys(SKUS, 1), windows=3)
    once = frozen_of(cue, [("buyer", *tap) for tap in taps])
    chance.shuffle(taps)
    assert frozen_of(cue, [("buyer", *tap) for tap in taps]) == once
    assert once.groups[0].window == min(window for window, _ in taps)


def test_within_a_window_everybody_has_the_same_chance() -> None:
    """Chi-square over 2,000 fixed seeds; 72.05 is passed by one fair draw in a thousand."""
    people, places, draws = 40, 10, 2_000
    frozen = frozen_of(cue_of(stock={"lipstick": places}), crowd(people))
    wins: Counter[str] = Counter()
    for number in range(draws):
        seed = hashlib.sha256(b"%d" % number).digest()
        wins.update(frozen.buyers[who] for who, _ in draw.draw(frozen, seed).winners)
    expected = draws * places / people
    spread = expected * (1 - places / people) * people / (people - 1)
    chi_square = sum((wins[f"buyer-0-{at}"] - expected) ** 2 / spread for at in range(people))
    assert sum(wins.values()) == draws * places
    assert 15 < chi_square < 72.05  # 39 degrees of freedom: too even would be wrong as well


def test_who_entered_first_wins_no_more_than_who_entered_last() -> None:
    """The entry's place against the win, over 400 draws of 100: no trend beyond 4 errors."""
    people, draws = 100, 400
    total = 0
    for number in range(draws):
        drawn = drawn_of(cue_of(f"cue-{number}", stock={"lipstick": 10}), crowd(people))
        buyers = (drawn.frozen.buyers[who] for who, _ in drawn.winners)
        total += sum(int(buyer.rpartition("-")[2]) for buyer in buyers)
    mean = total / (10 * draws)
    error = ((people**2 - 1) / 12 / (10 * draws) * 90 / 99) ** 0.5
    assert abs(mean - (people - 1) / 2) < 4 * error


@given(entries(), stocks)
def test_earlier_windows_go_first(told: list[Entry], stock: dict[str, int]) -> None:
    drawn = drawn_of(cue_of(stock=stock, windows=3), told)
    windows = {buyer: window for buyer, window, _ in told}
    order = [windows[drawn.frozen.buyers[who]] for who in drawn.order]
    assert order == sorted(order)


def test_a_later_window_gets_only_what_an_earlier_one_left() -> None:
    cue = cue_of(stock={"lipstick": 10}, windows=2)
    drawn = drawn_of(cue, [*crowd(200, 1), *crowd(7, 0)])
    windows = [drawn.frozen.buyers[who].split("-")[1] for who, _ in drawn.winners]
    assert windows == ["0"] * 7 + ["1"] * 3


@given(st.integers(1, 6), st.integers(0, 6), st.lists(st.integers(0, 1), max_size=30))
def test_keeping_the_best_gives_the_same_winners_as_keeping_all(
    stock: int, reserve: int, windows: list[int]
) -> None:
    told: list[Entry] = [
        (f"buyer-{at}", window, (("lipstick", 1 + at % 3, 1),)) for at, window in enumerate(windows)
    ]
    everybody = drawn_of(cue_of(stock={"lipstick": stock}, windows=2), told)
    best = cue_of(stock={"lipstick": stock}, windows=2, keep="best", kept=stock + reserve)
    seed = seed_of("1111", best.id)

    def rank(entry: Entry) -> tuple[int, bytes]:
        who = draw.entrant_of(SALT, "1111", best.id, entry[0])
        return entry[1], verify.rank_of(seed, "1111", best.id, who)

    kept = drawn_of(best, sorted(told, key=rank)[: stock + reserve])
    assert kept.winners == everybody.winners
    assert kept.order == everybody.order[: stock + reserve]
    record = record_of(kept)
    assert verify.verify(record).ok
    assert record["entrants_complete"] is (len(told) < stock + reserve)


@given(entries())
def test_the_order_is_that_of_the_ranks(told: list[Entry]) -> None:
    drawn = drawn_of(cue_of(windows=3), told)
    windows = {who: group.window for group in drawn.frozen.groups for who in group.who}
    ranks = [
        (windows[who], verify.rank_of(drawn.server_seed, "1111", "lipstick", bytes.fromhex(who)))
        for who in drawn.order
    ]
    assert ranks == sorted(ranks)
    assert sorted(drawn.order) == sorted(windows)


# --- what they get ------------------------------------------------------------------------


def model_walk(ordered: list[str], wish_of: dict[str, Wish], stock: dict[str, int]) -> Any:
    """Slow, and written another way: every unit is a thing of its own that is taken away."""
    if not ordered:
        return []
    first, *others = ordered
    shelf = [sku for sku, units in sorted(stock.items()) for _ in range(units)]
    bag = [sku for sku, wanted, _ in wish_of[first] for _ in range(min(wanted, shelf.count(sku)))]
    if all(bag.count(sku) >= least for sku, _, least in wish_of[first]):
        left = Counter(shelf) - Counter(bag)
        lot = tuple(sorted(Counter(bag).items()))
        return [(first, lot), *model_walk(others, wish_of, dict(left))]
    return model_walk(others, wish_of, stock)


@given(st.lists(wishes(), max_size=25), stocks)
def test_the_walk_agrees_with_a_slow_model(told: list[Wish], stock: dict[str, int]) -> None:
    wish_of = {f"{at:032x}": wish for at, wish in enumerate(told)}
    order = list(wish_of)
    assert verify.walk(order, wish_of, stock) == model_walk(order, wish_of, stock)


@pytest.mark.parametrize(
    ("told", "stock", "expected"),
    [
        pytest.param(
            [(("mug", 3, 3),), (("mug", 3, 1),)],
            {"mug": 5},
            [(0, (("mug", 3),)), (1, (("mug", 2),))],
            id="the last one is cut down to what is left",
        ),
        pytest.param(
            [(("mug", 3, 3),), (("mug", 3, 3),), (("mug", 1, 1),)],
            {"mug": 5},
            [(0, (("mug", 3),)), (2, (("mug", 1),))],
            id="who cannot have the least is passed over",
        ),
        pytest.param(
            [(("mug", 2, 2),), (("mug", 1, 1), ("scarf", 1, 1)), (("scarf", 1, 1),)],
            {"mug": 2, "scarf": 1},
            [(0, (("mug", 2),)), (2, (("scarf", 1),))],
            id="a basket is all or nothing, and takes nothing if it is nothing",
        ),
        pytest.param(
            [(("mug", 2, 1), ("scarf", 2, 1))],
            {"mug": 1, "scarf": 9},
            [(0, (("mug", 1), ("scarf", 2)))],
            id="each line is cut down by itself",
        ),
    ],
)
def test_the_rules_of_the_walk(
    told: list[Wish], stock: dict[str, int], expected: list[tuple[int, Lot]]
) -> None:
    wish_of = {str(at): wish for at, wish in enumerate(told)}
    assert verify.walk(list(wish_of), wish_of, stock) == [(str(at), lot) for at, lot in expected]


# --- secrets ------------------------------------------------------------------------------


def test_a_seed_follows_from_key_and_fresh_bytes_and_differs_in_all_else() -> None:
    """The key alone predicts nothing: with other fresh bytes everything is another."""
    other = Key("k2", b"another key for tests, 32 bytes.")
    made = [
        draw.server_seed(key, sale, cue, fresh)
        for key in (KEY, other)
        for sale, cue in (("1111", "a"), ("111", "1a"), ("1111", "b"))
        for fresh in (FRESH, bytes(32))
    ]
    assert len(set(made)) == len(made) == 12
    assert {len(secret) for secret in made} == {32}
    assert draw.server_seed(KEY, "1111", "a", FRESH) == made[0]
    commitments = {draw.seed_commitment(seed, "1111", "a") for seed in made}
    assert len(commitments) == 12


def test_names_and_openings_differ_by_salt_cue_and_buyer() -> None:
    ids = [("1111", "a", "b"), ("111", "1a", "b"), ("1111", "ab", ""), ("1111", "a", "c")]
    openings = {draw.opening_of(salt, *one) for salt in (SALT, bytes(32)) for one in ids}
    names = {draw.entrant_of(salt, *one) for salt in (SALT, bytes(32)) for one in ids}
    assert len(openings | names) == 16
    assert {len(value) for value in openings | names} == {32}


def test_a_receipt_is_of_one_buyer_alone() -> None:
    """Two buyers cannot be given the same receipt: each would find another name."""
    shared = draw.opening_of(SALT, "1111", "lipstick", "ann")
    names = {verify.entrant_of(shared, "1111", "lipstick", buyer) for buyer in ("ann", "bob")}
    assert len(names) == 2


def test_every_byte_of_a_long_key_counts() -> None:
    long, other = Key("k", bytes(100)), Key("k", bytes(99) + b"\1")
    assert draw.server_seed(long, "s", "c", FRESH) != draw.server_seed(other, "s", "c", FRESH)


def test_the_public_seed_depends_on_both_halves() -> None:
    made = {verify.public_seed(seed, value) for seed in (b"a", b"b") for value in (b"x", b"y")}
    assert len(made) == 4


def test_a_proof_is_an_hmac_over_parts_with_their_lengths() -> None:
    message = b"\0\0\0\x041111\0\0\0\x08lipstick\0\0\0\x08buyer-42"
    expected = hmac.new(bytes(range(16)), message, hashlib.sha256).hexdigest()
    nonce = bytes(range(16)).hex()
    assert draw.proof_of(nonce, "1111", "lipstick", "buyer-42") == expected
    assert draw.check_proof(nonce, "1111", "lipstick", "buyer-42", expected)


@pytest.mark.parametrize("proof", ["", "0" * 64, "ü" * 64, "\ud800", "x", "0" * 10_000])
def test_any_other_proof_is_wrong_and_none_is_an_error(proof: str) -> None:
    assert not draw.check_proof("00" * 16, "1111", "lipstick", "buyer-42", proof)


def test_a_proof_is_one_buyers_for_one_cue() -> None:
    nonce = "00" * 16
    proofs = {
        draw.proof_of(nonce, "1111", cue, buyer)
        for cue, buyer in (("a", "bc"), ("ab", "c"), ("a", "b"), ("b", "bc"))
    }
    assert len(proofs) == 4


# --- freeze, entropy, record --------------------------------------------------------------


def test_an_entrant_is_a_hash_of_the_buyer_and_the_buyers_receipt() -> None:
    frozen = frozen_of(cue_of(), crowd(3))
    for who, buyer in frozen.buyers.items():
        opening = draw.opening_of(SALT, "1111", "lipstick", buyer)
        assert verify.entrant_of(opening, "1111", "lipstick", buyer).hex() == who
        assert draw.entrant_of(SALT, "1111", "lipstick", buyer).hex() == who


@pytest.mark.parametrize(
    "changes",
    [{"stock": {"lipstick": 6}}, {"nonce": "11" * 16}, {"reserve_ms": 1}, {"position_ms": 1}],
    ids=str,
)
def test_the_digest_covers_the_cues_parameters(changes: dict[str, Any]) -> None:
    assert frozen_of(cue_of(), crowd(3)).digest != frozen_of(cue_of(**changes), crowd(3)).digest


def test_the_digest_covers_the_time_of_the_freeze() -> None:
    cue = cue_of()
    assert len({draw.freeze(cue, SALT, crowd(3), at_ms=at).digest for at in (1, 2)}) == 2


def test_a_public_draw_needs_its_entropy_and_a_committed_one_takes_none() -> None:
    seed = seed_of()
    with pytest.raises(InvalidRequest, match="entropy: is needed"):
        draw.draw(frozen_of(public_cue(), crowd(3)), seed)
    with pytest.raises(InvalidRequest, match="entropy: was not announced"):
        draw.draw(frozen_of(cue_of(), crowd(3)), seed, VALUE)


def test_public_entropy_changes_the_order() -> None:
    frozen = frozen_of(public_cue(), crowd(30))
    seed = seed_of()
    one, two = (draw.Randomness(value * 9) for value in (b"one", b"two"))
    assert draw.draw(frozen, seed, one).order != draw.draw(frozen, seed, two).order
    assert (
        draw.draw(frozen, seed, one).order
        == draw.draw(frozen, seed, draw.Randomness(one.value, b"signed")).order
    )


def test_no_record_before_every_winner_is_judged() -> None:
    drawn = drawn_of(cue_of(), crowd(10))
    awards = held(drawn)
    awards.popitem()
    with pytest.raises(InvalidRequest, match="awards: must have every winner"):
        record_of(drawn, awards)


def test_those_who_moved_up_follow_in_the_order_of_the_draw() -> None:
    drawn = drawn_of(cue_of(stock={"lipstick": 3}, reserve_ms=1_000), crowd(10))
    buyers = [drawn.frozen.buyers[who] for who in drawn.order]
    one = Award("held", (("lipstick", 1),))
    awards = dict.fromkeys((buyers[4], buyers[3], buyers[2], buyers[1], buyers[0]), one)
    record = record_of(drawn, awards, {"lipstick": 2})
    assert [who for who, _, _ in record["awarded"]] == drawn.order[:5]
    assert verify.verify(record).ok


def test_local_entropy_comes_at_its_time_and_not_before() -> None:
    now = CUE_TIME_MS
    source = LocalEntropy(period_ms=3_000, now_ms=lambda: now)
    number, at_ms = source.round_after(now)
    assert now < at_ms <= now + 3_000
    assert source.round_after(at_ms) == (number + 1, at_ms + 3_000)
    assert source.fetch(number) is None
    now = at_ms
    found = source.fetch(number)
    assert found is not None
    assert (len(found.value), found.signature) == (32, None)
    assert found != source.fetch(number - 1)
    checked: draw.EntropySource = source
    assert checked.name == "local"
