"""Cues, draws and their records without a server: everything from one key, so nothing is random."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from flashsale import Cue, draw, verify
from flashsale.draw import Award, Drawn, Entry, Frozen
from flashsale.keyring import Key
from flashsale.verify import Wish

KEY = Key("k1", b"a key for tests, of 32 bytes ...")
FRESH, SALT = bytes(range(32)), bytes(range(100, 132))
"""The secrets of every cue here."""
CUE_TIME_MS = 1_762_779_600_000
SOURCE, VALUE = "local", draw.Randomness(bytes(range(32)))
FIRST = draw.Randomness(
    bytes.fromhex("1466a6cd24e327188770752f6134001c64d6efcc590ccc26b721611ad96f165a"),
    bytes.fromhex(
        "b55e7cb2d5c613ee0b2e28d6750aabbb78c39dcc96bd9d38c2c2e12198df9557"
        "1de8e8e402a0cc48871c7089a2b3af4b"
    ),
)
"""The first round of drand's quicknet, as it was."""

PLACE = "https://example.com/draws"

Record = dict[str, Any]


def seed_of(sale: str = "1111", cue: str = "lipstick") -> bytes:
    return draw.server_seed(KEY, sale, cue, FRESH)


def cue_of(cue: str = "lipstick", **changes: Any) -> Cue:
    """A cue with everything that follows from its parameters."""
    told: Record = {
        "stock": {"lipstick": 5},
        "position_ms": 61_000,
        "cue_time_ms": CUE_TIME_MS,
        "ahead_ms": 12_000,
        "window_ms": 3_000,
        "windows": 1,
        "lag_cap_ms": 12_000,
        "grace_ms": 1_000,
        "spread_ms": 250,
        "reserve_ms": 0,
        "keep": "all",
        "kept": None,
        "entropy_source": None,
        "entropy_round": None,
        "entropy_at_ms": None,
        "entropy_margin_ms": 10_000,
        "publish": None,
        "publish_wait_ms": 0,
        "proof": True,
        "nonce": "00112233445566778899aabbccddeeff",
        **changes,
    }
    length = told["lag_cap_ms"] + told["windows"] * told["window_ms"]
    closes = told["cue_time_ms"] + length + told["grace_ms"] + told["spread_ms"]
    seed = seed_of("1111", cue)
    follows = {
        "key": KEY.id,
        "seed_commitment": draw.seed_commitment(seed, "1111", cue),
        "closes_at_ms": closes,
        "reveals_at_ms": max(closes + told["publish_wait_ms"], told["entropy_at_ms"] or 0) + 2_000,
    }
    return Cue(sale="1111", id=cue, **{**told, **follows, **changes})


def public_cue(cue: str = "lipstick", **changes: Any) -> Cue:
    """A cue whose seed is half public."""
    told = {"entropy_source": SOURCE, "entropy_round": 77, "entropy_at_ms": CUE_TIME_MS + 30_000}
    return cue_of(cue, **(told | changes))


def quicknet_cue(**changes: Any) -> Cue:
    """A cue that ended 73.75 s before the first round of drand's quicknet."""
    at = verify.QUICKNET.time_of(1)
    told = {"entropy_source": "drand-quicknet", "entropy_round": 1, "entropy_at_ms": at}
    late = {"cue_time_ms": at - 90_000, "entropy_margin_ms": 60_000}
    return cue_of(**(told | late | changes))


def receipt_of(buyer: str, cue: str = "lipstick") -> str:
    """What a buyer is told who enters a cue."""
    return draw.opening_of(SALT, "1111", cue, buyer).hex()


def crowd(count: int, window: int = 0, wish: Wish = (("lipstick", 1, 1),)) -> list[Entry]:
    """So many buyers who want the same."""
    return [(f"buyer-{window}-{number}", window, wish) for number in range(count)]


def frozen_of(cue: Cue, entries: Iterable[Entry], share: int | None = None) -> Frozen:
    return draw.freeze(cue, SALT, entries, at_ms=cue.closes_at_ms + 40, share=share)


def drawn_of(cue: Cue, entries: Iterable[Entry], share: int | None = None) -> Drawn:
    seed, frozen = seed_of(cue.sale, cue.id), frozen_of(cue, entries, share)
    values = {None: None, "drand-quicknet": FIRST}
    return draw.draw(frozen, seed, values.get(cue.entropy_source, VALUE))


def held(drawn: Drawn) -> dict[str, Award]:
    """Every winner gets what was drawn."""
    return {drawn.frozen.buyers[who]: Award("held", lot) for who, lot in drawn.winners}


def record_of(
    drawn: Drawn,
    awards: Mapping[str, Award] | None = None,
    returned: Mapping[str, int] | None = None,
    **times: int | None,
) -> Record:
    """The final record as a reader of its JSON has it."""
    cue = drawn.frozen.cue
    ends = cue.reveals_at_ms + cue.reserve_ms + 30
    published = drawn.frozen.at_ms + 60 if cue.publish else None
    told: Any = {"final_at_ms": ends, "told_at_ms": ends, "published_at_ms": published} | times
    return copy_of(draw.record_of(drawn, awards or held(drawn), returned, **told))


def void_of(cue: Cue | None = None, after_ms: int | None = None, **changes: Any) -> Record:
    """The record of a void cue: void before its time, or so long after its freeze."""
    cue = cue or cue_of()
    frozen = None if after_ms is None else frozen_of(cue, crowd(20))
    at_ms = cue.cue_time_ms - 1_000 if frozen is None else frozen.at_ms + (after_ms or 0)
    told = {"frozen": frozen, "server_seed": seed_of(cue.sale, cue.id), "at_ms": at_ms} | changes
    return copy_of(draw.void_record_of(cue, "the host dropped it 😀", **told))


def copy_of(record: Mapping[str, Any]) -> Record:
    """Through JSON, as records go."""
    read = verify.load(msgspec.json.encode(record))
    assert isinstance(read, dict)
    return read


def groups_of(record: Record) -> list[verify.Group]:
    """The entrants as the digest wants them."""
    return [
        verify.Group(group["window"], tuple(map(tuple, group["wish"])), group["who"])
        for group in record["entrants"]
    ]


def sealed(record: Record) -> Record:
    """Signed again, as a forger would."""
    return {**record, "seal": verify.seal_of(record)}


def digested(record: Record) -> Record:
    """With another digest for other entrants or another cue, and signed again."""
    frozen, groups = record["frozen"], groups_of(record)
    count = sum(len(group.who) for group in groups)
    digest = verify.digest_of(record["cue"], frozen["at_ms"], groups, record["capped"])
    return sealed({**record, "frozen": {**frozen, "entrants": count, "digest": digest}})


def redrawn(record: Record) -> Record:
    """All that follows from entrants and cue made anew: a forgery that is right in itself."""
    seed = bytes.fromhex(record["server_seed"])
    if record["entropy"]:
        seed = verify.public_seed(seed, bytes.fromhex(record["entropy"]["value"]))
    cue, groups = record["cue"], groups_of(record)
    ordered = verify.order_of(seed, cue["sale"], cue["id"], groups)
    lots = verify.walk(ordered, verify.wishes_of(groups), cue["stock"])
    drawn = [[who, [list(line) for line in lot]] for who, lot in lots]
    awarded = [[who, "held", lot] for who, lot in drawn]
    return digested({**record, "drawn": drawn, "awarded": awarded})


def moved_up(record: Record, at: int, lot: list[list[Any]] | None = None) -> Record:
    """Who is at that place of the order moves up, with what somebody gave back."""
    cue = record["cue"]
    seed = bytes.fromhex(record["server_seed"])
    order = verify.order_of(seed, cue["sale"], cue["id"], groups_of(record))
    record["awarded"].append([order[at], "held", lot or [["lipstick", 1]]])
    return sealed({**record, "returned": {"lipstick": record["returned"].get("lipstick", 0) + 1}})


def text_of(value: object) -> str:
    """A value's JSON: unlike ==, it tells 1, 1.0 and true apart."""
    return json.dumps(value, sort_keys=True)


def _promoted() -> Record:
    """One winner refused, one gave up, and two moved up."""
    drawn = drawn_of(cue_of(reserve_ms=60_000), crowd(20))
    awards = held(drawn)
    buyers = [drawn.frozen.buyers[who] for who in drawn.order]
    awards[buyers[1]] = Award("limit_reached")
    awards[buyers[5]] = awards[buyers[6]] = Award("held", (("lipstick", 1),))
    return record_of(drawn, awards, {"lipstick": 1})


def _refused() -> Record:
    """One winner refused: the next in order has the unit, though nothing is kept in reserve."""
    drawn = drawn_of(cue_of(), crowd(20))
    awards = held(drawn)
    buyers = [drawn.frozen.buyers[who] for who in drawn.order]
    awards[buyers[1]] = Award("key_limit")
    awards[buyers[5]] = Award("held", (("lipstick", 1),))
    return record_of(drawn, awards)


def _capped() -> Record:
    """Seven share one fingerprint, which two of them may have."""
    shared: list[Entry] = [(*entry[:3], "fp-1") for entry in crowd(7)]
    return record_of(drawn_of(cue_of(), [*shared, *crowd(20)[7:]], share=2))


def _best() -> Record:
    cue = cue_of(keep="best", kept=8)
    best = [drawn_of(cue_of(), crowd(50)).frozen.buyers[who] for who in _order(50)[:8]]
    return record_of(drawn_of(cue, [(buyer, 0, (("lipstick", 1, 1),)) for buyer in best]))


def _order(count: int) -> list[str]:
    return drawn_of(cue_of(), crowd(count)).order


def _baskets() -> Record:
    both: Wish = (("lipstick", 2, 1), ("mug", 1, 1))
    cue = cue_of(stock={"lipstick": 7, "mug": 4}, windows=3)
    entries = [*crowd(6), *crowd(9, 1, both), *crowd(9, 2, (("mug", 2, 1),)), *crowd(3, 2)]
    return record_of(drawn_of(cue, entries))


GOOD: dict[str, Callable[[], Record]] = {
    "committed": lambda: record_of(drawn_of(cue_of(), crowd(20))),
    "public": lambda: record_of(drawn_of(public_cue(), crowd(20))),
    "baskets": _baskets,
    "best": _best,
    "promoted": _promoted,
    "nobody": lambda: record_of(drawn_of(cue_of(), [])),
    "refused": _refused,
    "capped": _capped,
    "published": lambda: record_of(drawn_of(public_cue(publish=PLACE), crowd(20))),
    "void": void_of,
    "voided": lambda: void_of(after_ms=700),
}
"""A record of each kind."""


def _small(public: bool) -> Record:
    cue = public_cue("golden") if public else cue_of("golden", stock={"lipstick": 3, "mug": 1})
    wish = (("lipstick", 2, 1), ("mug", 1, 1))
    extra = [] if public else [("buyer-x", 0, wish)]
    return record_of(drawn_of(cue, [*crowd(4), *extra]))


GOLDEN: dict[str, Callable[[], Record]] = {
    "committed": lambda: _small(public=False),
    "public": lambda: _small(public=True),
    "quicknet": lambda: record_of(drawn_of(quicknet_cue(), crowd(4))),
    "void": GOOD["void"],
    "voided": GOOD["voided"],
}
"""What tests/data keeps as files. Made anew, if the format has to change, by this module as a
program: PYTHONPATH=tests:. python -m support.draws"""
DATA = Path(__file__).parents[1] / "data"


def golden_path(name: str) -> Path:
    return DATA / f"record-{verify.FORMAT}-{name}.json"


if __name__ == "__main__":
    for name, make in GOLDEN.items():
        golden_path(name).write_text(json.dumps(make(), indent=1) + "\n", "utf-8")
