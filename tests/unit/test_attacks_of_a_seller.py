"""What a seller may try who makes the record: `verify` refuses it, or its text names it.

`verify.py` judges a record alone, so a seller may compute every hash in it anew. Some frauds leave
no trace in any record; of those the limits speak, in words that a buyer understands.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

from flashsale import draw, verify
from flashsale.beacons import QUICKNET, check_signature
from flashsale.keyring import Key
from support.beacon import local_beacon, sign
from support.draws import (
    CUE_TIME_MS,
    FIRST,
    FRESH,
    KEY,
    Record,
    copy_of,
    crowd,
    cue_of,
    digested,
    drawn_of,
    frozen_of,
    held,
    quicknet_cue,
    receipt_of,
    record_of,
    redrawn,
    void_of,
)


def wrong_of(record: Record) -> dict[str, str]:
    return {
        check.name: check.message for check in verify.verify(record).checks if check.ok is False
    }


def limits_of(record: Record) -> str:
    return " ".join(verify.verify(record).limits)


def quicknet() -> Record:
    return record_of(drawn_of(quicknet_cue(), crowd(20)))


# --- names --------------------------------------------------------------------------------


def winning_name(seed: bytes, taken: list[str]) -> str:
    """A name that comes before all others: hash after hash is tried."""
    best = min(verify.rank_of(seed, "1111", "lipstick", bytes.fromhex(who)) for who in taken)
    for number in range(100_000):
        name = hashlib.sha256(b"%d" % number).hexdigest()
        if verify.rank_of(seed, "1111", "lipstick", bytes.fromhex(name)) < best:
            return name
    raise AssertionError("none found")


def test_a_chosen_name_wins_a_committed_draw_and_the_text_says_so() -> None:
    record = record_of(drawn_of(cue_of(), crowd(20)))
    who = record["entrants"][0]["who"]
    seed = bytes.fromhex(record["server_seed"])
    chosen = winning_name(seed, who)
    record["entrants"][0]["who"] = sorted([*who, chosen])
    forged = redrawn(record)
    assert wrong_of(forged) == {}
    assert forged["drawn"][0][0] == chosen
    text = limits_of(forged)
    assert "could try keys, random bytes and names until one wins, and enter it" in text
    assert "names with nobody behind them" in text


def test_a_chosen_name_is_no_buyers() -> None:
    """A name is a hash of the buyer: a seller who chose it has no receipt that leads there."""
    record = record_of(drawn_of(cue_of(), crowd(20)))
    chosen = winning_name(bytes.fromhex(record["server_seed"]), record["entrants"][0]["who"])
    record["entrants"][0]["who"] = sorted([*record["entrants"][0]["who"], chosen])
    forged = redrawn(record)
    for receipt in (chosen, "00" * 32, receipt_of("buyer-0-3")):
        assert verify.find(forged, "friend", receipt) is None


def test_a_name_chosen_after_the_freeze_is_not_in_the_published_digest() -> None:
    record = record_of(drawn_of(cue_of(), crowd(20)))
    published = record["frozen"]["digest"]
    record["entrants"][0]["who"] = sorted([*record["entrants"][0]["who"], "0" * 64])
    result = verify.verify(redrawn(record), published_digest=published)
    assert [check.name for check in result.checks if check.ok is False] == ["published"]


# --- receipts -----------------------------------------------------------------------------


def test_one_receipt_given_to_two_buyers_finds_only_its_own() -> None:
    record = record_of(drawn_of(cue_of(), crowd(20)))
    shared = receipt_of("buyer-0-3")
    assert verify.find(record, "buyer-0-3", shared) is not None
    for other in ("buyer-0-4", "buyer-0-33", "somebody"):
        assert verify.find(record, other, shared) is None


def test_one_id_given_to_two_buyers_is_named_as_what_a_receipt_does_not_prove() -> None:
    """The seller's own number, told to both: the record cannot show that they are two."""
    told = " ".join(verify.RECEIPT_LIMITS)
    assert "whoever may choose IDs can give two buyers the same one" in told
    assert "your login, not a number that the seller told you" in told


def test_a_receipt_of_another_cue_or_sale_finds_nothing() -> None:
    """Nor does one whose parts are cut elsewhere."""
    record = record_of(drawn_of(cue_of(), crowd(20)))
    assert verify.find(record, "buyer-0-3", receipt_of("buyer-0-3", cue="mug")) is None
    opening = bytes.fromhex(receipt_of("buyer-0-3"))
    names = {
        verify.entrant_of(opening, sale, cue, buyer)
        for sale, cue, buyer in (("11", "11lip", "b"), ("1111", "lip", "b"), ("1111", "lipb", ""))
    }
    assert len(names) == 3


def test_an_entry_that_was_left_out_cannot_be_shown_to_others_and_the_text_says_so() -> None:
    """Whoever has a salt makes up receipts: one that finds nothing accuses nobody."""
    record = record_of(drawn_of(cue_of(), crowd(20)))
    made_up = draw.opening_of(bytes(32), "1111", "lipstick", "never-entered").hex()
    assert verify.find(record, "never-entered", made_up) is None
    assert "nobody can show others that they are not" in limits_of(record)


# --- the seed -----------------------------------------------------------------------------


def ground_key(friend: str, tries: int = 3_000) -> Record:
    """Keys are tried until the friend is drawn first of twenty; then the cue is published."""
    frozen = frozen_of(cue_of(stock={"lipstick": 1}), crowd(20))
    for number in range(tries):
        seed = draw.server_seed(Key("k1", b"%032d" % number), "1111", "lipstick", FRESH)
        drawn = draw.draw(frozen, seed)
        if drawn.frozen.buyers[drawn.order[0]] == friend:
            commitment = draw.seed_commitment(seed, "1111", "lipstick")
            cue = cue_of(stock={"lipstick": 1}, seed_commitment=commitment)
            again = draw.draw(frozen_of(cue, crowd(20)), seed)
            return record_of(again, held(again))
    raise AssertionError("none found")


def test_a_ground_key_verifies_in_a_committed_draw_and_the_text_names_it() -> None:
    record = ground_key("buyer-0-13")
    assert verify.verify(record).ok
    place = verify.find(record, "buyer-0-13", receipt_of("buyer-0-13"))
    assert place is not None
    assert place.outcome == "held"
    assert "the seller. Until then they could try keys" in limits_of(record)


def test_a_key_ground_before_a_public_draw_wins_nothing() -> None:
    """The same key, with a round that nobody knew: the friend is where chance has it."""
    seeds = [
        draw.server_seed(Key("k1", b"%032d" % at), "1111", "lipstick", FRESH) for at in range(9)
    ]
    frozen = frozen_of(quicknet_cue(), crowd(200))
    committed = frozen_of(cue_of(), crowd(200))
    public = [draw.draw(frozen, seed, FIRST).order for seed in seeds]
    assert all(
        draw.draw(committed, seed).order != order for seed, order in zip(seeds, public, strict=True)
    )
    assert "could try keys" not in limits_of(quicknet())


def test_a_key_changed_after_the_cue_is_refused() -> None:
    record = record_of(drawn_of(cue_of(), crowd(20)))
    other = draw.server_seed(KEY, "1111", "lipstick", bytes(32))  # other fresh bytes
    assert set(wrong_of(redrawn(record | {"server_seed": other.hex()}))) == {"seed"}


# --- the beacon ---------------------------------------------------------------------------


def with_round(number: int, at_ms: int, value: draw.Randomness = FIRST) -> Record:
    cue = quicknet_cue(entropy_round=number, entropy_at_ms=at_ms)
    frozen = frozen_of(cue, crowd(20))
    seed = draw.server_seed(KEY, "1111", "lipstick", FRESH)
    return record_of(draw.draw(frozen, seed, value))


def test_an_old_round_is_refused_whatever_time_the_cue_gives_it() -> None:
    """Its time follows from its number: told wrongly, or told rightly, it was before the close."""
    cue = quicknet_cue()
    old = QUICKNET.round_after(cue.entropy_at_ms or 0) - 1
    assert old == 1
    later = quicknet_cue(cue_time_ms=cue.cue_time_ms + 600_000)
    lied = later.closes_at_ms + later.entropy_margin_ms + 3_000
    for at_ms, check in ((lied, "entropy"), (QUICKNET.time_of(1), "times")):
        told = quicknet_cue(cue_time_ms=later.cue_time_ms, entropy_at_ms=at_ms)
        seed = draw.server_seed(KEY, "1111", "lipstick", FRESH)
        record = record_of(draw.draw(frozen_of(told, crowd(20)), seed, FIRST))
        assert check in wrong_of(record)


def test_a_round_within_the_margin_is_refused() -> None:
    """Known before the freeze may have ended, though after the close."""
    near = quicknet_cue(cue_time_ms=QUICKNET.time_of(1) - 16_250 - 60_000)
    record = record_of(drawn_of(near, crowd(20)))
    assert "not later than 60000 ms after the close" in wrong_of(record)["times"]
    far = quicknet_cue(cue_time_ms=QUICKNET.time_of(1) - 16_250 - 60_001)
    assert wrong_of(record_of(drawn_of(far, crowd(20)))) == {}


def test_a_round_of_which_the_number_is_another_is_refused() -> None:
    assert "entropy" in wrong_of(with_round(2, QUICKNET.time_of(1)))
    assert "entropy" in wrong_of(with_round(0, QUICKNET.time_of(1)))


def ground_signature() -> Record:
    """48 bytes that nobody signed, tried until their hash lets the friend win."""
    frozen = frozen_of(quicknet_cue(stock={"lipstick": 1}), crowd(20))
    seed = draw.server_seed(KEY, "1111", "lipstick", FRESH)
    for number in range(3_000):
        signature = hashlib.sha384(b"%d" % number).digest()
        value = draw.Randomness(hashlib.sha256(signature).digest(), signature)
        drawn = draw.draw(frozen, seed, value)
        if drawn.frozen.buyers[drawn.order[0]] == "buyer-0-13":
            return record_of(drawn)
    raise AssertionError("none found")


def test_a_ground_signature_is_never_called_right_by_the_file_alone(tmp_path: Path) -> None:
    """Its hash and time are right, and the friend wins: only the signature can tell."""
    path, alone = tmp_path / "record.json", tmp_path / "verify.py"
    alone.write_bytes(Path(str(verify.__file__)).read_bytes())
    for record in (ground_signature(), quicknet()):  # alone, it cannot tell the one from the other
        path.write_text(json.dumps(record))
        told = subprocess.run(
            [sys.executable, "-S", "-I", str(alone), str(path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert told.returncode == 3
        assert "verifies" not in told.stdout
        assert "unchecked: the beacon's signature" in told.stdout.splitlines()[-1]


def test_a_ground_signature_is_refused_by_whoever_checks_it() -> None:
    told = verify.verify(ground_signature(), check_signature=check_signature)
    assert [check.name for check in told.checks if not check.ok] == ["beacon"]
    assert "did not sign this in round 1" in " ".join(check.message for check in told.checks)
    assert verify.verify(quicknet(), check_signature=check_signature).verdict == "verifies"


def test_a_seller_with_a_beacon_of_its_own_proves_no_more_than_a_committed_draw() -> None:
    """Whoever holds a beacon's key knows every round; its name, unknown here, gives it away."""
    own = local_beacon(genesis_ms=CUE_TIME_MS)
    cue = cue_of(
        cue_time_ms=CUE_TIME_MS - 200_000,
        entropy_source=own.name,
        entropy_round=9,
        entropy_at_ms=own.time_of(9),
    )
    signature = sign(9)
    value = draw.Randomness(hashlib.sha256(signature).digest(), signature)
    seed = draw.server_seed(KEY, "1111", "lipstick", FRESH)
    record = record_of(draw.draw(frozen_of(cue, crowd(20)), seed, value))
    result = verify.verify(record, check_signature=check_signature)
    assert result.ok
    assert "proves no more than a committed draw" in " ".join(result.limits)
    known = {own.name: own}
    told = verify.verify(record, check_signature=check_signature, beacons=known)
    assert told.ok
    assert "committed draw" not in " ".join(told.limits)


# --- voids and refusals -------------------------------------------------------------------


def test_a_void_after_a_look_keeps_its_digest_and_is_named() -> None:
    record = void_of(after_ms=45_000)
    assert verify.verify(record).ok
    assert record["frozen"]["digest"] == frozen_of(cue_of(), crowd(20)).digest
    text = limits_of(record)
    assert "did not look at who would win, and made the cue void because of that, 45000 ms" in text
    assert "Count how often cues are void after a freeze" in text


def test_a_void_after_a_look_cannot_be_told_as_one_before_the_cue() -> None:
    """Without the freeze its time gives it away; with an earlier time it had to know beforehand."""
    record = void_of(after_ms=45_000)
    hidden = record | {"frozen": None, "server_seed": None}
    hidden["seal"] = verify.seal_of(hidden)
    assert set(wrong_of(hidden)) == {"void"}


def test_a_void_of_a_public_draw_says_whether_its_randomness_was_known() -> None:
    before = limits_of(void_of(quicknet_cue(), after_ms=1_000))
    assert "void before the public randomness came is the seller's word" in before
    after = limits_of(void_of(quicknet_cue(), after_ms=100_000))
    assert "the randomness was known by then" in after


def test_a_winner_called_refused_moves_units_down_and_the_text_counts_them() -> None:
    """Three winners are called refused, so that a friend's turn comes: right in itself."""
    drawn = drawn_of(cue_of(), crowd(20))
    buyers = [drawn.frozen.buyers[who] for who in drawn.order]
    awards = held(drawn)
    for at in range(3):
        awards[buyers[at]] = draw.Award("conflict")
        awards[buyers[5 + at]] = draw.Award("held", (("lipstick", 1),))
    record = record_of(drawn, awards)
    assert verify.verify(record).ok
    assert "That the 3 who were refused were refused rightly" in limits_of(record)
    place = verify.find(record, buyers[0], receipt_of(buyers[0]))
    assert place is not None
    assert place.outcome == "conflict"  # which the buyer concerned knows to be false


def test_what_refused_winners_left_is_neither_kept_nor_given_past_the_next() -> None:
    drawn = drawn_of(cue_of(), crowd(20))
    buyers = [drawn.frozen.buyers[who] for who in drawn.order]
    refused = held(drawn) | {buyers[0]: draw.Award("conflict")}
    one = draw.Award("held", (("lipstick", 1),))
    assert set(wrong_of(record_of(drawn, refused))) == {"left"}
    past = record_of(drawn, refused | {buyers[6]: one})
    assert "was passed over for somebody later" in wrong_of(past)["promoted"]
    assert wrong_of(record_of(drawn, refused | {buyers[5]: one})) == {}


def test_a_digest_published_too_late_is_refused_and_its_place_told() -> None:
    place = "https://example.com/draws"
    cue = quicknet_cue(publish=place)
    in_time = record_of(drawn_of(cue, crowd(20)))
    assert wrong_of(in_time) == {}
    assert f"{place!r}, it says" in limits_of(in_time)
    late = in_time["frozen"] | {"published_at_ms": cue.entropy_at_ms}
    told = digested(in_time | {"frozen": late})
    assert set(wrong_of(told)) == {"publish"}


def test_a_copy_read_from_json_is_judged_like_the_original() -> None:
    assert copy_of(quicknet()) == quicknet()
