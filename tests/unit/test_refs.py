"""A reference is sale, buyer and hold id in one string, and back."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.hostile import IDENTIFIERS
from flashsale import Answer, InvalidRequest, Outcome, Ref, limits, parse_ref
from flashsale.refs import make_ref
from flashsale.testing import identifiers

PARTS = st.tuples(identifiers(), identifiers(), identifiers())


@given(PARTS)
def test_a_reference_reads_back_as_what_it_was_made_of(parts: tuple[str, str, str]) -> None:
    assert parse_ref(make_ref(*parts)) == Ref(*parts)


@given(PARTS)
def test_a_reference_is_fit_for_a_payment_providers_order_field(
    parts: tuple[str, str, str],
) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]+", make_ref(*parts))


@given(PARTS, PARTS)
def test_two_holds_never_have_one_reference(
    one: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    assert (make_ref(*one) == make_ref(*other)) is (one == other)


def test_the_usual_reference_can_be_read_by_people() -> None:
    assert make_ref("1111", "buyer-42", "order-77") == "1111__buyer-42__order-77"
    assert make_ref("a/b", "c_d", "e@f") == "a_2Fb__c_5Fd__e_40f"


def test_an_answer_about_the_sale_itself_has_no_reference() -> None:
    assert Answer(Outcome.PAUSED, "1111").ref == ""


@pytest.mark.parametrize(
    "ref",
    [
        "",
        "a",
        "a__b",
        "a__b__c__d",
        "__b__c",
        "a____c",
        "a__b__",
        "a__b__c ",
        "a__b__c\n",
        "a__b__c_",
        "a__b__c_2",
        "a__b__c_2f",
        "a__b__c_41",
        "a__b__c_5f",
        "a__b__c_00",
        "a__b__c_7B",
        "a__b__c.d",
        "a___b__c",
        "ａ__b__c",
        f"{'a' * 65}__b__c",
    ],
)
def test_a_reference_that_is_not_exactly_one_of_ours_is_refused(ref: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_ref(ref)


@pytest.mark.parametrize("value", IDENTIFIERS)
def test_hostile_text_is_no_reference_and_no_part_of_one(value: str) -> None:
    bad = IDENTIFIERS[value]
    with pytest.raises(InvalidRequest, match="^ref: must be the `ref` of an answer"):
        parse_ref(bad)
    if isinstance(bad, str):
        for ref in (f"{bad}__b__c", f"a__{bad}__c", f"a__b__{bad}"):
            with pytest.raises(InvalidRequest) as caught:
                parse_ref(ref)
            assert len(str(caught.value)) < 500


@given(st.text(st.sampled_from("abAZ09_-25F"), max_size=24))
def test_a_text_is_either_refused_or_the_only_way_to_write_its_parts(text: str) -> None:
    try:
        parts = parse_ref(text)
    except InvalidRequest:
        return
    assert make_ref(*parts) == text


# --- lengths ------------------------------------------------------------------------------


def test_the_longest_reference_is_as_long_as_is_stated_and_reads_back() -> None:
    longest = make_ref(*["=" * limits.ID_MAX] * 3)
    assert len(longest) == limits.REF_MAX == 580
    assert parse_ref(longest) == Ref(*["=" * limits.ID_MAX] * 3)


@given(PARTS)
def test_a_short_reference_is_the_reference_or_names_the_lengths_that_forbid_it(
    parts: tuple[str, str, str],
) -> None:
    answer = Answer(Outcome.HELD, *parts)
    if len(answer.ref) <= 32:
        assert answer.short_ref == answer.ref
        return
    lengths = "sale {}, buyer {}, hold id {}".format(*map(len, parts))
    with pytest.raises(InvalidRequest, match="^short_ref: must be at most 32 ") as error:
        _ = answer.short_ref
    assert lengths in str(error.value)
    assert f"it has {len(answer.ref)}:" in str(error.value)


def test_the_usual_reference_is_short_and_that_of_two_uuids_is_not() -> None:
    assert Answer(Outcome.HELD, "1111", "buyer-42", "order-77").short_ref == (
        "1111__buyer-42__order-77"
    )
    assert Answer(Outcome.PAUSED, "1111").short_ref == ""
    with pytest.raises(InvalidRequest, match="buyer 36, hold id 36"):
        _ = Answer(Outcome.HELD, "1111", "b" * 36, "h" * 36).short_ref
