"""A waiting room is checked when it is made: its fields within their bounds, or which is not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.hostile import IDENTIFIERS, QUANTITIES
from flashsale import InvalidRequest, WaitingRoom, limits, waiting_room
from flashsale.rooms import POLL_MIN_MS, check_rate

INTS: dict[str, tuple[int, int]] = {
    "opens_at_ms": (limits.TIME_MIN_MS, limits.TIME_MAX_MS),
    "turn_ttl_ms": (1, limits.DURATION_MAX_MS),
    "places_max": (1, limits.PLACES_MAX),
    "key_places_max": (1, limits.PLACES_MAX),
    "ticket_ttl_ms": (1, limits.DURATION_MAX_MS),
    "poll_max_ms": (POLL_MIN_MS, 3_600_000),
}
NUMBERS: dict[str, tuple[float, float, str]] = {
    "rate_per_s": (1e-6, limits.RATE_MAX, "must be a number from 0.000001 to 1000000"),
    "conversion": (1e-6, limits.CONVERSION_MAX, "must be a number from 0.000001 to 1000"),
    "margin": (0, 1, "must be a number from 0 to 1"),
}
NOT_NUMBERS = {
    name: value
    for name, value in QUANTITIES.items()
    if name not in ("zero", "one and a half", "one as a float", "2^31", "minus one")
}


def room(**rules: Any) -> WaitingRoom:
    return WaitingRoom(**{"rate_per_s": 100} | rules)


def refused(field: str, value: Any, rule: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        room(**{field: value})
    assert error.value.field == field
    assert rule in str(error.value)


@pytest.mark.parametrize("field", INTS)
def test_a_whole_number_is_taken_up_to_its_bounds_and_no_further(field: str) -> None:
    low, high = INTS[field]
    for value in (low, high):
        assert getattr(room(**{field: value}), field) == value
    for value in (low - 1, high + 1):
        refused(field, value, f"must be from {low} to {high}, not {value}")


@pytest.mark.parametrize("field", INTS)
def test_what_is_no_whole_number_is_refused(field: str) -> None:
    low, high = INTS[field]
    for name, value in QUANTITIES.items():
        if name == "None" and field in ("opens_at_ms", "key_places_max"):
            continue  # there is none
        if type(value) is int and low <= value <= high:
            continue
        refused(field, value, f"{low} to {high}, not ")


@pytest.mark.parametrize("field", NUMBERS)
def test_a_number_is_taken_up_to_its_bounds_and_no_further(field: str) -> None:
    low, high, rule = NUMBERS[field]
    for value in (low, high, 1, 0.5):
        assert getattr(room(**{field: value}), field) == value
    below = (-1e-9, -1.0) if low == 0 else (0, 0.0, 1e-7, -0.5)
    for value in (*below, high * (1 + 1e-9), 2**31):
        refused(field, value, rule)


@pytest.mark.parametrize("field", NUMBERS)
def test_what_is_no_number_is_refused(field: str) -> None:
    for value in NOT_NUMBERS.values():
        refused(field, value, NUMBERS[field][2])


@pytest.mark.parametrize("value", [0, 1, None, "True", 1.0, b"", [], "yes"], ids=repr)
def test_one_place_is_true_or_false(value: Any) -> None:
    refused("one_place", value, "must be True or False")


def test_keys_are_counted_only_where_places_are() -> None:
    with pytest.raises(InvalidRequest, match="key_places_max: needs one_place"):
        room(one_place=False, key_places_max=1)


def test_a_room_needs_its_rate_by_name() -> None:
    with pytest.raises(TypeError):
        WaitingRoom()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        WaitingRoom(5.0)  # type: ignore[misc]


def test_the_rule_that_a_number_breaks_is_the_one_that_is_told() -> None:
    rule = "conversion: must be a number from 0.000001 to 1000, not 5e-07"
    refused("conversion", 5e-07, rule)
    assert room(conversion=1e-06).conversion == 1e-06


def test_rooms_that_are_equal_are_written_alike() -> None:
    whole, broken = (
        room(conversion=1, margin=0),
        room(rate_per_s=100.0, conversion=1.0, margin=-0.0),
    )
    assert whole == broken
    assert msgspec.json.encode(whole) == msgspec.json.encode(broken)
    assert {type(getattr(whole, field)) for field in NUMBERS} == {float}


def test_the_largest_room_has_as_many_hashes_as_a_room_may_have() -> None:
    assert room(places_max=limits.PLACES_MAX).hashes == limits.HASHES_MAX


@given(
    st.fixed_dictionaries(
        {"rate_per_s": st.floats(1e-6, 1e6) | st.integers(1, 10**6)},
        optional={
            "opens_at_ms": st.none() | st.integers(*INTS["opens_at_ms"]),
            "turn_ttl_ms": st.integers(*INTS["turn_ttl_ms"]),
            "conversion": st.floats(1e-6, 1_000),
            "margin": st.floats(0, 1),
            "places_max": st.integers(*INTS["places_max"]),
            "ticket_ttl_ms": st.integers(*INTS["ticket_ttl_ms"]),
            "poll_max_ms": st.integers(*INTS["poll_max_ms"]),
        },
    )
)
def test_a_room_survives_being_written_and_its_parts_fit_their_bounds(rules: Any) -> None:
    made = WaitingRoom(**rules)
    assert msgspec.json.decode(msgspec.json.encode(made), type=WaitingRoom) == made
    assert 1 <= made.hashes <= limits.HASHES_MAX
    assert (made.hashes - 1) * limits.PLACES_PER_HASH < made.places_max
    assert made.hashes * limits.PLACES_PER_HASH >= made.places_max
    slots = made.turn_ttl_ms / made.slot_ms
    assert slots <= limits.TURN_SLOTS
    assert (made.slot_ms - 1) * limits.TURN_SLOTS < made.turn_ttl_ms
    assert float(f"{made.rate_per_s:.6f}") > 0  # as the script is told it


def test_a_rate_that_is_set_is_checked_like_that_of_the_room() -> None:
    for value in NOT_NUMBERS.values():
        with pytest.raises(
            InvalidRequest, match=r"rate_per_s: must be .* from 0\.000001 to 1000000"
        ):
            check_rate(value)


@pytest.mark.parametrize("name", [name for name in IDENTIFIERS if name != "empty"])
def test_a_bad_buyer_or_key_is_refused_with_its_field(name: str) -> None:
    with pytest.raises(InvalidRequest, match="buyer: must be 1 to 64 characters"):
        waiting_room.join_item(IDENTIFIERS[name], "")
    with pytest.raises(InvalidRequest, match="key: must be 1 to 64 characters"):
        waiting_room.join_item("ann", IDENTIFIERS[name])
    with pytest.raises(InvalidRequest, match="buyer: must be 1 to 64 characters"):
        waiting_room.leave_item(IDENTIFIERS[name], None)
