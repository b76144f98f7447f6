"""The verifier: good records pass, every forgery is caught and named, nothing else is raised."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flashsale import Outcome, verify
from flashsale.verify import InvalidRecord
from support.draws import (
    GOLDEN,
    GOOD,
    Record,
    copy_of,
    crowd,
    cue_of,
    digested,
    drawn_of,
    frozen_of,
    golden_path,
    moved_up,
    quicknet_cue,
    receipt_of,
    record_of,
    redrawn,
    sealed,
    text_of,
    void_of,
)

CONSTANTS = {
    "commit": "595a8056ac45598f7359723e394420f6bf45289da799a17c0f6b0cf7dc3c2f08",
    "who": "b3cfdb14e87b083fd452838809981a7bbca27ce70f6bd23f5e57d2d1806f0ec8",
    "draw": "700bc20de9c058f2d1cde5dd0d800eee3f049f56beab224a7b65b3f8b61220e6",
    "public": "2232c81dfa36d3acff577e9d6ae26c037f5d1064162ac0187a6a460e1e9f556b",
}
RECORDS = {name: make() for name, make in GOOD.items()}
FORGED = RECORDS | {"quicknet": record_of(drawn_of(quicknet_cue(), crowd(20)))}
"""What forgeries are made of."""
TOLD = "deadbeef" * 8
TIMES = ("told_at_ms", "final_at_ms")
OLD_ROUND_MS = verify.QUICKNET.time_of(1) + 3_000
"""A round that had come three seconds before, as a seller would say of it."""


def good(name: str = "committed") -> Record:
    return copy.deepcopy(FORGED[name])


def wrong_of(record: object, **options: Any) -> dict[str, str]:
    """The checks that do not hold, and what they say."""
    result = verify.verify(record, **options)
    assert result.ok is all(check.ok for check in result.checks)
    return {check.name: check.message for check in result.checks if check.ok is False}


# --- good ones ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECORDS)
def test_a_good_record_verifies(name: str) -> None:
    result = verify.verify(good(name))
    assert wrong_of(good(name)) == {}
    assert result.ok
    assert result.limits
    names = [check.name for check in result.checks]
    assert len(names) == len(set(names))
    assert names[-1] == "seal"


def test_verifying_changes_nothing_in_the_record() -> None:
    for name in RECORDS:
        record = good(name)
        verify.verify(record)
        assert text_of(record) == text_of(RECORDS[name])


def test_every_reason_for_a_refusal_is_an_outcome() -> None:
    assert {outcome.value for outcome in Outcome} > verify.REFUSALS


def test_the_published_digest_may_be_held_against_the_record() -> None:
    digest = good()["frozen"]["digest"]
    assert verify.verify(good(), published_digest=f" {digest.upper()}\n").ok
    assert set(wrong_of(good(), published_digest="0" * 64)) == {"published"}
    told = " ".join(verify.verify(good(), published_digest=digest).limits)
    assert "digest" not in told


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("committed", "could try keys, random bytes and names until one wins, and enter it"),
        ("committed", "the digest before the result"),
        ("public", "'local', a beacon that this program does not know"),
        ("public", "proves no more than a committed draw"),
        ("quicknet", "the digest before the public randomness, 2023-08-23 15:09:27 UTC"),
        ("quicknet", "unless the digest was seen in public before"),
        ("published", "(at 'https://example.com/draws', it says)"),
        ("refused", "That the 1 who were refused were refused rightly"),
        ("capped", "That the 5 left out for their fingerprint shared it"),
        ("best", "not among the best kept"),
        ("best", "the seller, and every process that took entries"),
        ("baskets", "race at its edge"),
        ("void", "the seller's word"),
        ("voided", "did not look at who would win, and made the cue void because of that, 700 ms"),
    ],
)
def test_the_limits_of_each_kind_are_said(name: str, expected: str) -> None:
    texts = verify.verify(good(name)).limits
    assert any(expected in text for text in texts), texts
    if name not in ("void", "voided"):
        assert any("several accounts" in text for text in texts)


def test_what_a_public_draw_proves_is_not_denied_as_if_it_were_committed() -> None:
    texts = " ".join(verify.verify(good("quicknet")).limits)
    assert "could try keys" not in texts
    assert "beacon that this program does not know" not in texts


def test_of_a_void_cue_whose_seed_is_not_told_that_is_said() -> None:
    record = void_of(after_ms=700, server_seed=None)
    assert wrong_of(record) == {}
    told = verify.verify(record).limits
    assert any("seed was lost: it is not told" in text for text in told)
    assert not any("seed was lost" in text for text in verify.verify(good("voided")).limits)


def test_a_record_says_whether_it_is_final_by_its_own_times() -> None:
    record = good("promoted")
    assert verify.verify(record).final
    early = sealed(record | {"told_at_ms": record["final_at_ms"] - 1})
    result = verify.verify(early)
    assert (result.ok, result.final) == (True, False)
    assert any("not final before" in text for text in result.limits)
    told = {check.name: check.message for check in result.checks}["told"]
    assert told.startswith("NOT FINAL YET: until 2025-11-10")


def test_a_final_record_is_the_same_whenever_it_is_made() -> None:
    drawn = drawn_of(cue_of(reserve_ms=60_000), crowd(20))
    ends = drawn.frozen.cue.reveals_at_ms + 60_000
    late, later = (
        record_of(drawn, final_at_ms=ends, told_at_ms=ends + after) for after in (0, 99_999)
    )
    assert late == later
    assert record_of(drawn, final_at_ms=ends, told_at_ms=ends - 1) != late


def test_a_short_window_is_not_called_fair() -> None:
    record = record_of(drawn_of(cue_of(window_ms=1_999), crowd(3)))
    assert verify.verify(record).ok
    assert any("1999 ms" in text for text in verify.verify(record).limits)
    assert not any("shorter" in text for text in verify.verify(good()).limits)


# --- forgeries, each named ------------------------------------------------------------------


def with_cue(record: Record, **changes: Any) -> Record:
    return digested({**record, "cue": {**record["cue"], **changes}})


def without_last(record: Record, name: str) -> Record:
    return {**record, name: record[name][:-1]}


def with_frozen(record: Record, **changes: Any) -> Record:
    return {**record, "frozen": {**record["frozen"], **changes}}


def edited(record: Record, edit: Callable[[Record], object]) -> Record:
    changed = copy.deepcopy(record)
    edit(changed)
    return changed


def friend(record: Record) -> Record:
    """Someone who was not drawn takes the first place."""
    drawn = {who for who, _ in record["drawn"]}
    lucky = next(who for who in record["entrants"][0]["who"] if who not in drawn)
    record["drawn"][0][0] = record["awarded"][0][0] = lucky
    return sealed(record)


def twice_in_two_groups(record: Record) -> Record:
    record["entrants"][1]["who"] = sorted(
        [*record["entrants"][1]["who"], record["entrants"][0]["who"][0]]
    )
    return digested(record)


def half_public(record: Record, **changes: Any) -> Record:
    return sealed({**record, "entropy": {**record["entropy"], **changes}})


PUBLIC = {"source": "local", "round": 77, "value": "00", "signature": None}


FORGERIES: dict[str, tuple[str, Callable[[Record], Record], str, str]] = {
    # what was done: the record, how, the check that tells, and what it says
    "another format": (
        "committed",
        lambda r: r | {"format": 2},
        "format",
        "format is 2; this program reads 1",
    ),
    "a format that is no number": (
        "committed",
        lambda r: r | {"format": "1"},
        "format",
        "format is '1'",
    ),
    "a field that is missing": (
        "committed",
        lambda r: {k: v for k, v in r.items() if k != "frozen"},
        "structure",
        "the record.frozen is missing",
    ),
    "the salt beside the record": (
        "committed",
        lambda r: r | {"salt": "00"},
        "structure",
        "has a field that is unknown: 'salt'",
    ),
    "a field of another kind": (
        "committed",
        lambda r: edited(r, lambda c: c["cue"].update(window_ms="3000")),
        "structure",
        "cue.window_ms must be a whole number from 1 to 2592000000, not '3000'",
    ),
    "another seed": (
        "committed",
        lambda r: redrawn(r | {"server_seed": "ab" * 32}),
        "seed",
        "not the one that was committed to",
    ),
    "a later close": (
        "committed",
        lambda r: with_cue(r, closes_at_ms=r["cue"]["closes_at_ms"] + 1),
        "times",
        "but its windows, lag cap, grace and spread end at",
    ),
    "a wider window": (
        "committed",
        lambda r: with_cue(r, window_ms=3_001),
        "times",
        "but its windows, lag cap, grace and spread end at",
    ),
    "a result before the close": (
        "committed",
        lambda r: with_cue(r, reveals_at_ms=r["cue"]["closes_at_ms"] - 1),
        "times",
        "before the close",
    ),
    "randomness known at the close": (
        "public",
        lambda r: with_cue(r, entropy_at_ms=r["cue"]["closes_at_ms"] + 10_000),
        "times",
        "not later than 10000 ms after the close",
    ),
    "a result before its randomness": (
        "public",
        lambda r: with_cue(r, reveals_at_ms=r["cue"]["entropy_at_ms"] - 1),
        "times",
        "before the public randomness comes",
    ),
    "a freeze before the close": (
        "committed",
        lambda r: digested(with_frozen(r, at_ms=r["cue"]["closes_at_ms"] - 7)),
        "freeze",
        "frozen 7 ms before the close",
    ),
    "a freeze after the randomness": (
        "public",
        lambda r: digested(with_frozen(r, at_ms=r["cue"]["entropy_at_ms"])),
        "freeze",
        "when the public randomness was known already",
    ),
    "randomness that was not announced": (
        "committed",
        lambda r: redrawn(r | {"entropy": {**PUBLIC, "source": "x", "round": 1}}),
        "entropy",
        "but the cue announced none",
    ),
    "announced randomness left out": (
        "public",
        lambda r: redrawn(r | {"entropy": None}),
        "entropy",
        "but the record has none",
    ),
    "another round": (
        "public",
        lambda r: half_public(r, round=78),
        "entropy",
        "round 78 of 'local' was used, but the cue announced round 77",
    ),
    "another value of the round": (
        "public",
        lambda r: half_public(r, value="00" * 32),
        "drawn",
        "the draw gives",
    ),
    "entrants out of order": (
        "committed",
        lambda r: digested(edited(r, lambda c: c["entrants"][0]["who"].reverse())),
        "entrants",
        "is not in ascending order",
    ),
    "an entrant twice": (
        "committed",
        lambda r: digested(
            edited(r, lambda c: c["entrants"][0]["who"].insert(0, c["entrants"][0]["who"][0]))
        ),
        "entrants",
        "is there twice",
    ),
    "an entrant in two groups": (
        "baskets",
        twice_in_two_groups,
        "entrants",
        "is there twice, in different groups",
    ),
    "groups out of order": (
        "baskets",
        lambda r: digested(edited(r, lambda c: c["entrants"].reverse())),
        "entrants",
        "the groups of entrants are not ascending",
    ),
    "a window that is not there": (
        "committed",
        lambda r: digested(edited(r, lambda c: c["entrants"][0].update(window=1))),
        "entrants",
        "in window 1, but there are 1",
    ),
    "a sku that the cue has not": (
        "committed",
        lambda r: digested(edited(r, lambda c: c["entrants"][0].update(wish=[["mug", 1, 1]]))),
        "entrants",
        "wish 'mug', which the cue has not",
    ),
    "an entrant left out": (
        "committed",
        lambda r: sealed(edited(r, lambda c: c["entrants"][0]["who"].pop())),
        "count",
        "20 entrants were frozen, but the record has 19",
    ),
    "an entrant exchanged": (
        "committed",
        lambda r: sealed(edited(r, lambda c: c["entrants"][0]["who"].__setitem__(0, "0" * 64))),
        "digest",
        "do not give the digest",
    ),
    "another nonce": (
        "committed",
        lambda r: sealed(edited(r, lambda c: c["cue"].update(nonce="00" * 16))),
        "digest",
        "do not give the digest",
    ),
    "a friend is drawn": ("committed", friend, "drawn", "place 1 of the drawn is"),
    "more than was drawn": (
        "baskets",
        lambda r: sealed(edited(r, lambda c: c["drawn"][0][1][0].__setitem__(1, 9))),
        "drawn",
        "has 9 × lipstick; the draw gives",
    ),
    "a winner left out": (
        "committed",
        lambda r: sealed(without_last(without_last(r, "drawn"), "awarded")),
        "drawn",
        "the draw gives 5 winners, the record 4",
    ),
    "a winner who was not awarded": (
        "committed",
        lambda r: sealed(edited(r, lambda c: c["awarded"].pop(2))),
        "awarded",
        "was drawn, but is not among the awarded",
    ),
    "awarded in another order": (
        "committed",
        lambda r: sealed(edited(r, lambda c: c["awarded"].reverse())),
        "awarded",
        "was drawn, but is not awarded in the order of the draw",
    ),
    "awarded twice": (
        "committed",
        lambda r: sealed(edited(r, lambda c: c["awarded"].append(c["awarded"][0]))),
        "awarded",
        "was awarded twice",
    ),
    "awarded more than was drawn": (
        "committed",
        lambda r: sealed(edited(r, lambda c: c["awarded"][0].__setitem__(2, [["lipstick", 2]]))),
        "awarded",
        "was awarded 2 × lipstick, but drew 1 × lipstick",
    ),
    "refused and awarded": (
        "committed",
        lambda r: sealed(edited(r, lambda c: c["awarded"][0].__setitem__(1, "conflict"))),
        "awarded",
        "was refused (conflict), but has 1 × lipstick",
    ),
    "holding nothing": (
        "committed",
        lambda r: sealed(edited(r, lambda c: c["awarded"][0].__setitem__(2, []))),
        "awarded",
        "said to hold something, but has nothing",
    ),
    "moved up though nothing was free": (
        "committed",
        lambda r: sealed(moved_up(r, 5) | {"returned": {}}),
        "promoted",
        "but no winner was refused and nothing came back",
    ),
    "what a refused winner left is kept back": (
        "refused",
        lambda r: sealed(without_last(r, "awarded")),
        "left",
        "is next in the order, and what is left was not offered to them",
    ),
    "left out, but among the entrants": (
        "capped",
        lambda r: digested(r | {"capped": [*r["capped"][1:], r["entrants"][0]["who"][-1]]}),
        "capped",
        "was left out for its fingerprint, and is among the entrants",
    ),
    "left out twice": (
        "capped",
        lambda r: digested(r | {"capped": r["capped"][:1] * 2}),
        "capped",
        "is there twice or out of order",
    ),
    "another one left out": (
        "capped",
        lambda r: sealed(r | {"capped": without_last(r, "capped")["capped"]}),
        "digest",
        "do not give the digest",
    ),
    "the best with a fingerprint": (
        "best",
        lambda r: digested(r | {"capped": [TOLD]}),
        "capped",
        "which a cue of the best has not",
    ),
    "told before its time": (
        "committed",
        lambda r: sealed(r | {"told_at_ms": r["cue"]["reveals_at_ms"] - 1}),
        "told",
        "before its time",
    ),
    "told after the end": (
        "committed",
        lambda r: sealed(r | {"told_at_ms": r["final_at_ms"] + 1}),
        "told",
        "later than when it was final",
    ),
    "final too early": (
        "promoted",
        lambda r: sealed(r | dict.fromkeys(TIMES, r["cue"]["reveals_at_ms"] + 59_999)),
        "told",
        "is final before places went to the next for 60000 ms",
    ),
    "published, but nowhere": (
        "committed",
        lambda r: sealed(with_frozen(r, published_at_ms=r["frozen"]["at_ms"])),
        "publish",
        "the cue names no place for that",
    ),
    "not published": (
        "published",
        lambda r: sealed(with_frozen(r, published_at_ms=None)),
        "publish",
        "was to be published at 'https://example.com/draws', and was not",
    ),
    "published before the freeze": (
        "published",
        lambda r: sealed(with_frozen(r, published_at_ms=r["frozen"]["at_ms"] - 1)),
        "publish",
        "before the entrants were frozen",
    ),
    "published after the randomness": (
        "published",
        lambda r: sealed(with_frozen(r, published_at_ms=r["cue"]["entropy_at_ms"])),
        "publish",
        "when the public randomness was known already",
    ),
    "told too soon after it was published": (
        "published",
        lambda r: with_cue(
            with_frozen(r, published_at_ms=r["cue"]["entropy_at_ms"] - 1), publish_wait_ms=4_000
        ),
        "told",
        "less than 4000 ms after the digest was published",
    ),
    "no wait after the digest": (
        "published",
        lambda r: with_cue(r, publish_wait_ms=60_000),
        "times",
        "not 60000 ms after the digest",
    ),
    "an old round": (
        "quicknet",
        lambda r: with_cue(half_public(r, round=1), entropy_at_ms=OLD_ROUND_MS),
        "entropy",
        "round 1 of 'drand-quicknet' came at 1692803367000, not at",
    ),
    "a round before the first": (
        "quicknet",
        lambda r: with_cue(half_public(r, round=0), entropy_round=0),
        "entropy",
        "round 0 of 'drand-quicknet' came at",
    ),
    "another value of a beacon": (
        "quicknet",
        lambda r: redrawn(half_public(r, value="00" * 32)),
        "beacon",
        "is not SHA-256 of the beacon's signature",
    ),
    "a beacon without its signature": (
        "quicknet",
        lambda r: half_public(r, signature=None),
        "beacon",
        "has no signature of 'drand-quicknet'",
    ),
    "a stranger moved up": (
        "promoted",
        lambda r: sealed(edited(r, lambda c: c["awarded"][-1].__setitem__(0, TOLD))),
        "promoted",
        f"{TOLD} moved up, but is not among the entrants",
    ),
    "moved up past others": (
        "promoted",
        lambda r: moved_up(r, 9),
        "promoted",
        "was passed over for somebody later in the order",
    ),
    "moved up in another order": (
        "promoted",
        lambda r: sealed(
            edited(r, lambda c: c["awarded"].insert(5, c["awarded"].pop())),
        ),
        "promoted",
        "did not move up in the order of the draw",
    ),
    "moved up with more than wished": (
        "promoted",
        lambda r: moved_up(r, 7, [["lipstick", 2]]),
        "promoted",
        "with 2 × lipstick, which is not what they wished",
    ),
    "units came back for nobody": (
        "committed",
        lambda r: sealed(r | {"returned": {"lipstick": 1}}),
        "promoted",
        "but nobody moved up",
    ),
    "more given than there was": (
        "promoted",
        lambda r: sealed(r | {"returned": {}}),
        "stock",
        "6 × lipstick were given, but 5 were set aside and 0 came back",
    ),
    "more came back than was given": (
        "promoted",
        lambda r: sealed(r | {"returned": {"lipstick": 7}}),
        "stock",
        "7 × lipstick came back, but only 6 were given",
    ),
    "some entrants called all": (
        "best",
        lambda r: sealed(r | {"entrants_complete": True}),
        "rules",
        "calls its 8 entrants complete: 8 are kept",
    ),
    "all entrants called some": (
        "committed",
        lambda r: sealed(r | {"entrants_complete": False}),
        "rules",
        "but the record calls them incomplete",
    ),
    "more entrants than are kept": (
        "best",
        lambda r: with_cue(r, kept=7),
        "rules",
        "keeps the best 7, but the record has 8 entrants",
    ),
    "fewer kept than could win": (
        "best",
        lambda r: with_cue(r, kept=4),
        "rules",
        "fewer than could win",
    ),
    "all kept, and only some": (
        "committed",
        lambda r: with_cue(r, kept=100),
        "rules",
        "keeps all entrants, but also only 100",
    ),
    "the best of a public draw": (
        "public",
        lambda r: with_cue(r, keep="best", kept=100),
        "rules",
        "must know the seed, so it cannot be public",
    ),
    "the best of two skus": (
        "baskets",
        lambda r: with_cue(r, keep="best", kept=100),
        "rules",
        "has one sku, not 2",
    ),
    "the best with a least": (
        "best",
        lambda r: digested(edited(r, lambda c: c["entrants"][0].update(wish=[["lipstick", 2, 2]]))),
        "rules",
        "takes no least above 1",
    ),
    "void, but drawn": (
        "committed",
        lambda r: sealed(r | {"void": {"reason": "changed our mind", "at_ms": r["told_at_ms"]}}),
        "void",
        "so entrants must be empty",
    ),
    "void, but awarded": (
        "void",
        lambda r: sealed(r | {"awarded": RECORDS["committed"]["awarded"]}),
        "void",
        "so awarded must be empty",
    ),
    "void, but complete": (
        "void",
        lambda r: sealed(r | {"entrants_complete": True}),
        "void",
        "so entrants_complete must be false",
    ),
    "void without a reason": (
        "void",
        lambda r: sealed(r | {"void": {**r["void"], "reason": ""}}),
        "structure",
        "void.reason must be text of 1 to 256 characters, not ''",
    ),
    "void, with a value": (
        "voided",
        lambda r: sealed(r | {"entropy": PUBLIC}),
        "void",
        "so entropy must be null",
    ),
    "void, and told later": (
        "voided",
        lambda r: sealed(r | {"told_at_ms": r["told_at_ms"] - 1}),
        "void",
        "must be final since then, and told then",
    ),
    "void after the freeze, which is hidden": (
        "voided",
        lambda r: sealed(r | {"frozen": None, "server_seed": None}),
        "void",
        "the cue's time had come when it was made void, but no digest is told",
    ),
    "void, with a seed that was never used": (
        "void",
        lambda r: sealed(r | {"server_seed": "ab" * 32}),
        "void",
        "a seed is told of a cue that was never frozen",
    ),
    "void, with another seed": (
        "voided",
        lambda r: sealed(r | {"server_seed": "cd" * 32}),
        "seed",
        "not the one that was committed to",
    ),
    "void before its freeze": (
        "voided",
        lambda r: sealed(with_frozen(r, at_ms=r["void"]["at_ms"] + 1)),
        "void",
        "frozen after the cue was made void",
    ),
    "void, and frozen before the close": (
        "voided",
        lambda r: sealed(with_frozen(r, at_ms=r["cue"]["closes_at_ms"] - 9)),
        "freeze",
        "frozen 9 ms before the close",
    ),
    "void after all": (
        "void",
        lambda r: sealed(r | {"void": None}),
        "structure",
        "frozen must be an object, not null",
    ),
    "another reason, not signed": (
        "void",
        lambda r: r | {"void": {**r["void"], "reason": "nobody won"}},
        "seal",
        "the record was altered",
    ),
    "a refusal told differently": (
        "promoted",
        lambda r: edited(r, lambda c: c["awarded"][1].__setitem__(1, "conflict")),
        "seal",
        "the record was altered",
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_each_forgery_is_named(name: str) -> None:
    kind, forge, check, message = FORGERIES[name]
    wrong = wrong_of(forge(good(kind)))
    assert message in wrong.get(check, ""), wrong


ALIKE = [
    {"an entrant exchanged", "another nonce", "another one left out"},
    {"another reason, not signed", "a refusal told differently"},
    {"another seed", "void, with another seed"},
    {"another value of the round", "a friend is drawn"},
]
"""Forgeries of which nothing can tell the one from the other: one hash covers all that the digest
or the seal does, and another order may come from another seed or from another hand."""


def test_each_forgery_has_a_message_of_its_own() -> None:
    """Whoever reads it knows which of the forgeries it is, whoever the entrants are."""
    said: dict[tuple[str, str], set[str]] = {}
    for name, (kind, forge, check, _) in FORGERIES.items():
        message = wrong_of(forge(good(kind)))[check]
        said.setdefault((check, re.sub(r"\b[0-9a-f]{64}\b", "…", message)), set()).add(name)
    shared = [names for names in said.values() if len(names) > 1]
    assert sorted(map(sorted, shared)) == sorted(map(sorted, ALIKE))


def test_every_check_catches_a_forgery() -> None:
    caught = {check for _, _, check, _ in FORGERIES.values()} | {"published"}
    named = {"published"}
    for record in FORGED.values():
        named |= {check.name for check in verify.verify(record).checks}
    assert caught == named


def test_a_forgery_that_is_right_in_itself_needs_the_published_digest() -> None:
    """The seller adds itself to the stock: only what was published beforehand tells."""
    record = good()
    forged = redrawn({**record, "cue": {**record["cue"], "stock": {"lipstick": 6}}})
    assert verify.verify(forged).ok
    assert set(wrong_of(forged, published_digest=record["frozen"]["digest"])) == {"published"}


def test_another_value_of_the_source_is_a_limit_that_is_said() -> None:
    record = good("public")
    forged = redrawn({**record, "entropy": {**record["entropy"], "value": "00" * 32}})
    result = verify.verify(forged, published_digest=record["frozen"]["digest"])
    assert result.ok
    assert any("a beacon that this program does not know" in text for text in result.limits)


def test_somebody_twice_among_entrants_of_whom_some_moved_up_is_caught_as_well() -> None:
    record = good("promoted")
    who = record["awarded"][-1][0]
    record["entrants"][0]["who"] = sorted([*record["entrants"][0]["who"], who, who])
    assert "is there twice" in wrong_of(digested(record))["entrants"]


# --- fuzz ---------------------------------------------------------------------------------

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from(
        [2**31, -(2**63), 10**30, 10**4000, 0.0, 1.0, -0.5, math.nan, math.inf, "", "x", "0"]
    ),
    st.sampled_from([[], {}, [[]], [None], {"a": 1}, "\ud800", "\0", "0" * 32, "A" * 64]),
    st.text(max_size=5),
)


def paths_of(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a record, leaves and branches."""
    found = [path] if path else []
    inner: Any = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    for key, part in inner:
        found += paths_of(part, (*path, key))
    return found


def near(value: Any, data: st.DataObject) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + data.draw(st.sampled_from([-1000, -1, 1, 7, 10**9]))
    if isinstance(value, str) and value:
        at = data.draw(st.integers(0, len(value) - 1))
        return value[:at] + data.draw(st.sampled_from("0123456789abcdefXé")) + value[at + 1 :]
    if isinstance(value, list) and len(value) > 1:
        at, to = data.draw(st.integers(0, len(value) - 1)), data.draw(st.integers(0, len(value)))
        moved = value[:at] + value[at + 1 :]
        return [*moved[:to], value[at], *moved[to:]]
    return None


def mutate(record: Record, data: st.DataObject) -> None:
    """One change, anywhere."""
    path = data.draw(st.sampled_from(paths_of(record)))
    holder: Any = record
    for key in path[:-1]:
        holder = holder[key]
    key, how = path[-1], data.draw(st.sampled_from(["near", "junk", "drop", "double", "swap"]))
    if how == "drop":
        del holder[key]
    elif how == "double" and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    elif how == "swap":
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        other = data.draw(st.sampled_from(list(keys)))
        holder[key], holder[other] = holder[other], holder[key]
    elif how == "junk":
        holder[key] = data.draw(JUNK)
    else:
        holder[key] = near(holder[key], data)


def changed(name: str, data: st.DataObject) -> Record | None:
    """A good record after one to three changes; None if they changed nothing in the end."""
    record = good(name)
    for _ in range(data.draw(st.integers(1, 3))):
        if paths_of(record):
            mutate(record, data)
    return None if text_of(record) == text_of(RECORDS[name]) else record


LARGE = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
"""Records are large, and a busy machine is slow: that is no finding."""


@LARGE
@given(st.sampled_from(sorted(RECORDS)), st.data())
def test_no_altered_record_verifies_and_nothing_is_raised(name: str, data: st.DataObject) -> None:
    record = changed(name, data)
    if record is not None:
        wrong = wrong_of(record)
        assert wrong
        assert all(len(message) < 400 for message in wrong.values())


def without_sayings(record: Record) -> Record:
    """Without what nothing but the seal covers: times that are the seller's word, and the signature
    of a source that is not known."""
    kept = {key: value for key, value in record.items() if key not in (*TIMES, "seal")}
    if isinstance(record.get("frozen"), dict):
        kept["frozen"] = record["frozen"] | {"published_at_ms": None}
    if isinstance(record.get("entropy"), dict):
        kept["entropy"] = record["entropy"] | {"signature": None}
    return kept


@LARGE
@given(
    st.sampled_from(["committed", "public", "baskets", "best", "nobody", "capped", "published"]),
    st.data(),
)
def test_no_altered_record_verifies_for_being_sealed_again(name: str, data: st.DataObject) -> None:
    """Sealed again, and where that is possible with a digest made anew, but published before."""
    record = changed(name, data)
    if record is None:
        return
    published = RECORDS[name]["frozen"]["digest"]
    try:
        forged = [sealed(record)]
        forged.append(digested(record))
        if record["entropy"] == RECORDS[name]["entropy"]:  # the source alone can tell
            forged.append(redrawn(record))
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
        if "seal" not in record:
            return
        forged = [record]
    for one in forged:
        if text_of(without_sayings(one)) != text_of(without_sayings(RECORDS[name])):
            assert wrong_of(one, published_digest=published)


@given(JUNK | st.recursive(JUNK, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_what_is_no_record_is_said_to_be_none(value: object) -> None:
    assert set(wrong_of(value)) <= {"format", "structure"}
    assert wrong_of(value)
    with pytest.raises(InvalidRecord):
        verify.find(value, "buyer", "0" * 64)


def test_a_record_that_is_nested_too_deep_is_refused() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    for record in (deep, {**good(), "drawn": deep}, {**good(), "entrants": [deep]}):
        assert wrong_of(record)


def test_a_number_too_long_to_be_printed_is_refused() -> None:
    cue = {**good()["cue"], "position_ms": 10**5000}
    told = wrong_of({**good(), "cue": cue})["structure"]
    assert told.endswith("not a number far too large")


@pytest.mark.parametrize("name", RECORDS)
def test_a_file_cut_off_at_any_length_is_no_record(name: str) -> None:
    whole = json.dumps(RECORDS[name]).encode()
    for length in range(len(whole)):
        with pytest.raises(InvalidRecord) as told:
            verify.load(whole[:length])
        assert told.value.field == "the file", length


@pytest.mark.parametrize("name", RECORDS)
def test_a_list_cut_off_at_any_length_does_not_verify(name: str) -> None:
    """A record that is whole JSON, but lacks the end of one of its lists, signed again or not."""
    for path in paths_of(RECORDS[name]):
        record = good(name)
        part: Any = record
        for key in path:
            part = part[key]
        if not isinstance(part, list):
            continue
        for length in reversed(range(len(part))):
            del part[length:]
            assert wrong_of(record), (path, length)
            if path != ("awarded",) or length < len(record["drawn"]):
                # Without the last who moved up it is the record of a moment before.
                assert wrong_of(sealed(record)), (path, length)


@given(st.integers(0, 10_000), st.binary(max_size=8), st.integers(0, 8))
def test_bytes_that_are_damaged_are_refused_or_do_not_verify(
    at: int, junk: bytes, cut: int
) -> None:
    whole = json.dumps(good()).encode()
    damaged = whole[: at % len(whole)] + junk + whole[at % len(whole) + cut :]
    read: object = None
    with suppress(InvalidRecord):  # and nothing else
        read = verify.load(damaged)
    assert text_of(read) == text_of(good()) or wrong_of(read)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file must be JSON"),
        (b"{", "the file must be JSON"),
        (b'{"a": 1} x', "the file must be JSON"),
        (b"\xff\xfe{}", "must be UTF-8: byte 0, in line 1, is not"),
        (b'{"a": NaN}', "it says NaN, which is no number there"),
        (b'{"a": -Infinity}', "it says -Infinity"),
        (b'{"a": 1, "a": 2}', "field 'a' comes twice in one object"),
        (b"9" * 5000, "the file must be JSON"),
        (b"[" * 200_000, "is nested too deep"),
    ],
    ids=range(9),
)
def test_what_is_no_json_is_refused_with_the_reason(data: bytes, message: str) -> None:
    with pytest.raises(InvalidRecord) as told:
        verify.load(data)
    assert message in str(told.value)


def test_a_byte_order_mark_is_taken() -> None:
    assert verify.verify(verify.load(b"\xef\xbb\xbf" + json.dumps(good()).encode())).ok


# --- receipts -----------------------------------------------------------------------------


def test_a_receipt_finds_each_entrant_and_what_became_of_it() -> None:
    drawn = drawn_of(cue_of(), crowd(20))
    record = record_of(drawn)
    for at, who in enumerate(drawn.order, 1):
        buyer = drawn.frozen.buyers[who]
        place = verify.find(record, buyer, f" {receipt_of(buyer).upper()} ")
        assert place is not None
        assert (place.entrant, place.place, place.of, place.window) == (who, at, 20, 0)
        assert place.outcome == ("held" if at <= 5 else "not_drawn")
        assert place.drawn == place.lines == ((("lipstick", 1),) if at <= 5 else ())


def test_a_receipt_tells_refusals_and_who_moved_up() -> None:
    record = good("promoted")
    buyers = frozen_of(cue_of(reserve_ms=60_000), crowd(20)).buyers
    refused, moved = (
        verify.find(record, buyer, receipt_of(buyer))
        for buyer in (buyers[record["awarded"][at][0]] for at in (1, -1))
    )
    assert refused is not None
    assert moved is not None
    assert (refused.outcome, refused.drawn, refused.lines) == (
        "limit_reached",
        (("lipstick", 1),),
        (),
    )
    assert (moved.outcome, moved.drawn, moved.lines) == ("held", (), (("lipstick", 1),))


def test_a_receipt_that_is_not_in_the_record_finds_nothing() -> None:
    assert verify.find(good(), "buyer-0-0", "0" * 64) is None
    assert verify.find(good("void"), "buyer-0-0", receipt_of("buyer-0-0")) is None


def test_a_receipt_finds_nobody_but_its_buyer() -> None:
    """Whoever is given somebody else's receipt does not find a name of theirs with it."""
    assert verify.find(good(), "buyer-0-0", receipt_of("buyer-0-0")) is not None
    assert verify.find(good(), "buyer-0-1", receipt_of("buyer-0-0")) is None


def test_a_receipt_is_not_looked_for_in_another_format() -> None:
    with pytest.raises(InvalidRecord, match="format is 2"):
        verify.find(good() | {"format": 2}, "buyer-0-0", "0" * 64)


@pytest.mark.parametrize("receipt", ["", "x" * 64, "0" * 63, "0" * 65, "\ud800"])
def test_what_is_no_receipt_is_refused(receipt: str) -> None:
    with pytest.raises(InvalidRecord, match="the receipt must be 32 bytes"):
        verify.find(good(), "buyer-0-0", receipt)


@pytest.mark.parametrize("buyer", ["", "a b", "a" * 65, "\ud800", "ann\n"])
def test_what_is_no_buyer_is_refused(buyer: str) -> None:
    with pytest.raises(InvalidRecord, match="the buyer must be 1 to 64 characters"):
        verify.find(good(), buyer, "0" * 64)


# --- alone, and for ever ------------------------------------------------------------------


def alone(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Copy the one file away and run it without site-packages, this package or the environment."""
    copied = tmp_path / "verify.py"
    copied.write_bytes(Path(str(verify.__file__)).read_bytes())
    return subprocess.run(
        [sys.executable, "-S", "-I", str(copied), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        check=False,
    )


def test_the_file_runs_alone(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(json.dumps(good()))
    winner = frozen_of(cue_of(), crowd(20)).buyers[good()["drawn"][0][0]]
    told = alone(tmp_path, str(path), "--buyer", winner, "--receipt", receipt_of(winner))
    assert (told.returncode, told.stderr) == (0, "")
    assert "The record verifies." in told.stdout
    assert "What this record cannot prove:" in told.stdout
    assert "Place 1 of 20, window 0, wished 1 × lipstick: held, 1 × lipstick" in told.stdout
    path.write_text(json.dumps(good() | {"seal": "0" * 64}))
    told = alone(tmp_path, str(path))
    assert told.returncode == 1
    assert "WRONG seal" in told.stdout
    assert "The record does NOT verify." in told.stdout


def test_the_file_alone_says_why_there_is_nothing_to_check(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    told = alone(tmp_path, str(path))
    assert told.returncode == 2
    assert "No such file" in told.stderr
    path.write_text("{")
    told = alone(tmp_path, str(path))
    assert told.returncode == 2
    assert told.stderr.startswith(f"verify.py: {path}: the file must be JSON")


def test_the_verifier_imports_nothing_but_the_standard_library(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, '.'); import verify; "
        "told = {name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names); "
        "print(sorted(told - {'__main__', 'verify'}))"
    )
    (tmp_path / "verify.py").write_bytes(Path(str(verify.__file__)).read_bytes())
    told = subprocess.run(
        [sys.executable, "-S", "-I", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        check=True,
    )
    assert told.stdout.strip() == "[]"


@pytest.mark.parametrize("name", GOLDEN)
def test_the_format_has_not_drifted(name: str) -> None:
    """What was written once must be read, and be written the same, for ever."""
    record = verify.load(golden_path(name).read_bytes())
    assert wrong_of(record) == {}
    assert record == copy_of(GOLDEN[name]())


def blake(purpose: str, *parts: bytes, key: bytes = b"") -> bytes:
    """What the format says of a hash, written down a second time."""
    message = b"".join(struct.pack(">I", len(part)) + part for part in parts)
    return hashlib.blake2b(message, digest_size=32, key=key, person=purpose.encode()).digest()


@pytest.mark.parametrize("name", ["committed", "public", "quicknet"])
def test_the_kept_records_follow_from_what_the_format_says(name: str) -> None:
    """A second verifier in a few lines, from the text alone and without the module."""
    record = json.loads(golden_path(name).read_text("utf-8"))
    cue, frozen = record["cue"], record["frozen"]
    names = (b"1111", cue["id"].encode())
    seed = bytes.fromhex(record["server_seed"])
    assert blake("flashsale.commit", *names, seed).hex() == cue["seed_commitment"]
    compact = {"sort_keys": True, "separators": (",", ":")}
    parts = [*names, json.dumps(cue, **compact).encode(), str(frozen["at_ms"]).encode()]
    everybody = []
    for group in record["entrants"]:
        text = ",".join(f"{sku}*{units}:{least}" for sku, units, least in group["wish"])
        who = [bytes.fromhex(entrant) for entrant in group["who"]]
        parts += [str(group["window"]).encode(), text.encode(), b"".join(who)]
        everybody += [(group["window"], entrant, group["wish"]) for entrant in who]
    parts.append(b"".join(bytes.fromhex(entrant) for entrant in record["capped"]))
    assert blake("flashsale.freeze", *parts).hex() == frozen["digest"]
    if record["entropy"]:
        seed = blake("flashsale.public", seed, bytes.fromhex(record["entropy"]["value"]))
    everybody.sort(key=lambda one: (one[0], blake("flashsale.draw", *names, one[1], key=seed)))
    left, drawn = dict(cue["stock"]), []
    for _, entrant, wish in everybody:
        if all(left[sku] >= least for sku, _, least in wish) and any(left.values()):
            drawn.append([entrant.hex(), [[sku, min(want, left[sku])] for sku, want, _ in wish]])
            for sku, got in drawn[-1][1]:
                left[sku] -= got
    assert drawn == record["drawn"]
    rest = {key: value for key, value in record.items() if key not in ("seal", "entrants")}
    assert blake("flashsale.record", json.dumps(rest, **compact).encode()).hex() == record["seal"]


def test_the_hashes_have_not_drifted() -> None:
    """They are part of the format: no release may change them."""
    zero = bytes(32)
    assert verify.seed_commitment(zero, "s", "c") == CONSTANTS["commit"]
    assert verify.entrant_of(zero, "s", "c", "buyer").hex() == CONSTANTS["who"]
    assert verify.rank_of(zero, "s", "c", bytes(32)).hex() == CONSTANTS["draw"]
    assert verify.public_seed(zero, b"\1").hex() == CONSTANTS["public"]
