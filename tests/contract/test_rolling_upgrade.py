"""Two releases on one server at once: lua/README.md, Compatibility.

The older release is this one. The newer is made out of it by support/next_release.py. Their
clients are processes of their own, and it is left to chance which of them makes a call.

Phase one: clients of both, a sale in format 1. Phase two: only newer clients, which are told
to write format 2. An older client left over then is refused.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
import redis
from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant

from contract.test_wrong_types import SWEEPING, VERBS, busy
from faults.checks import kinds_of
from flashsale import (
    EventKind,
    FlashSale,
    HoldRequest,
    HoldState,
    Outcome,
    ProtocolError,
    Rejected,
    SaleHandle,
    scripts,
)
from stateful.drawing import definitions
from stateful.running import SHORT
from stateful.test_sale_machine import HeldTimeMachine
from support.cluster import server_of
from support.courses import ask, course
from support.lab import T0, Lab
from support.next_release import as_format_1, records_of, tell, write_next_release
from support.releases import Client, Fleet, clients_of

REFUSED = "FLASHSALE_FORMAT"
RECORD_REFUSED = "FLASHSALE_FORMAT a buyer's record is in a format this script does not read"


@pytest.fixture(scope="module")
def next_lua(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_next_release(tmp_path_factory.mktemp("next") / "lua")


@pytest.fixture(scope="module")
def older(server_url: str) -> Iterator[list[Client]]:
    with clients_of(server_url, None) as clients:
        yield clients


@pytest.fixture(scope="module")
def newer(server_url: str, next_lua: Path) -> Iterator[list[Client]]:
    with clients_of(server_url, next_lua) as clients:
        yield clients


@pytest.fixture
def make_lab(raw: redis.Redis, new_sale_id: Callable[[], str]) -> Callable[..., Lab]:
    """Opens sales through these clients, and holds their time."""

    def make(*clients: Client, seed: int = 0) -> Lab:
        return Lab(Fleet(clients, seed).as_shop(), raw, new_sale_id)

    return make


# --- a digest alone -----------------------------------------------------------------------


def digests(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    with monkeypatch.context() as patched:
        patched.setattr(scripts, "lua_folder", lambda: folder)
        scripts.load_script.cache_clear()
        shas = {name: scripts.load_script(name).sha for name in scripts.script_names()}
    scripts.load_script.cache_clear()
    return shas


def test_each_release_loads_its_own_scripts_where_they_are_missing(
    older: list[Client],
    newer: list[Client],
    make_lab: Callable[..., Lab],
    next_lua: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = digests(scripts.lua_folder(), monkeypatch)
    theirs = digests(next_lua, monkeypatch)
    assert ours.keys() == theirs.keys()
    assert not set(ours.values()) & set(theirs.values())
    lab = make_lab(*older)
    sale = lab.open()
    server = server_of(lab.raw, lab.keys(sale).sale)
    shas = [ours["inventory/hold"], theirs["inventory/hold"]]
    for number in range(3):
        lab.raw.script_flush()
        assert server.script_exists(*shas) == [False, False]
        for place, client in enumerate([older[0], newer[0]]):
            seller = Fleet([client]).sale(sale.id)
            answer = seller.hold(f"buyer-{number}", {"red": 1}, hold_id=f"h{place}")
            assert (answer.outcome, answer.replayed) == (Outcome.HELD, False)
        assert server.script_exists(*shas) == [True, True]
    assert sale.audit().ok


# --- what is stored -----------------------------------------------------------------------

STOCK, RULES = {"red": 20, "blue": 12}, {"limit": 8, "limits": {"red": 6}, "holds_max": 4}
EVERYTHING = {
    EventKind.HELD,
    EventKind.CONFIRMED,
    EventKind.RELEASED,
    EventKind.EXPIRED,
    EventKind.EXTENDED,
    EventKind.REFUNDED,
    EventKind.TOMBSTONE,
    EventKind.RESTOCKED,
}


def stored(lab: Lab, sale: SaleHandle) -> dict[str, Any]:
    """Every byte of a sale but its id, its opening, and the field that the next release adds."""
    mine = sale.id.encode()
    dump = {key.rpartition(":")[2]: content for key, content in lab.dump(sale).items()}
    dump["sale"] = {field: text.replace(mine, b"") for field, text in dump["sale"].items()}
    dump["ledger"] = [
        (entry, {field: text for field, text in fields.items() if field != b"zz"})
        for entry, fields in dump["ledger"][1:]
    ]
    return dump


def authors(lab: Lab, sale: SaleHandle) -> dict[bool, int]:
    """How many ledger entries each release wrote; True stands for the newer."""
    entries = [fields for _, fields in lab.raw.xrange(lab.keys(sale).ledger)][1:]
    return {newer: sum((b"zz" in fields) is newer for fields in entries) for newer in (False, True)}


@pytest.mark.parametrize("seed", range(3))
def test_two_releases_store_byte_for_byte_what_the_older_one_stores_alone(
    seed: int, older: list[Client], newer: list[Client], make_lab: Callable[..., Lab]
) -> None:
    """So the newer one can be taken back at any moment of phase one: nothing tells it was there."""
    alone, together = make_lab(*older), make_lab(*older, *newer, seed=seed)
    expected, sale = alone.open(STOCK, **RULES), together.open(STOCK, **RULES)
    for step in course(seed, steps=250):
        if step[0] == "set_time":
            alone.set_time(expected, *step[1])
            together.set_time(sale, *step[1])
        else:
            assert ask(sale, step) == ask(expected, step), step
            assert stored(together, sale) == stored(alone, expected), step
    assert min(authors(together, sale).values()) > 20
    assert kinds_of(sale).keys() >= EVERYTHING
    assert {record[0] for record in records_of(together.raw, sale.id).values()} == {"1"}
    for clients in (older, newer):
        assert Fleet(clients).sale(sale.id).audit().ok


@pytest.mark.parametrize("seed", range(3))
def test_the_format_changes_the_spelling_of_records_and_nothing_else(
    seed: int, older: list[Client], newer: list[Client], make_lab: Callable[..., Lab]
) -> None:
    alone, lab = make_lab(*older), make_lab(*newer, seed=seed)
    expected, sale = alone.open(STOCK, **RULES), lab.open(STOCK, **RULES)
    chance, told, mixed = random.Random(seed), 1, 0
    before: dict[str, str] = {}
    for step in course(seed, steps=250):
        if step[0] == "set_time":
            alone.set_time(expected, *step[1])
            lab.set_time(sale, *step[1])
            continue
        if chance.random() < 0.1:
            told = chance.choice([1, 2])
            tell(lab.raw, sale.id, told)
        assert ask(sale, step) == ask(expected, step), step
        records = records_of(lab.raw, sale.id)
        assert {record[0] for _, record in records.items() - before.items()} <= {str(told)}, step
        mixed += len({record[0] for record in records.values()}) == 2
        before = records
        spelt_alike = {buyer: as_format_1(record) for buyer, record in records.items()}
        assert spelt_alike == records_of(alone.raw, expected.id), step
        ours, theirs = stored(lab, sale), stored(alone, expected)
        for key in ("skus", "stock", "deadlines", "restocks"):
            assert ours[key] == theirs[key], step
    assert mixed > 20
    assert kinds_of(sale).keys() >= EVERYTHING
    assert sale.audit().ok


@pytest.mark.parametrize("due", [False, True])
@pytest.mark.parametrize("verb", SWEEPING)
def test_every_verb_writes_the_format_that_was_told(
    verb: str, due: bool, newer: list[Client], make_lab: Callable[..., Lab]
) -> None:
    """Also those that mostly take a shorter way: new buyers' holds, plain holds that end."""
    lab = make_lab(*newer)
    sale = busy(lab)
    before = records_of(lab.raw, sale.id)
    tell(lab.raw, sale.id, 2)
    lab.set_time(sale, T0 + 1_000 if due else T0 + 500)
    VERBS[verb](sale)
    changed = dict(records_of(lab.raw, sale.id).items() - before.items())
    assert {record[0] for record in changed.values()} <= {"2"}, changed
    assert changed or verb in ("restock", "expire")
    assert not due or changed.keys() >= {f"due-{number}" for number in range(3)}
    assert sale.audit().ok


# --- against the oracle -------------------------------------------------------------------


class TwoReleases(HeldTimeMachine):
    """The machine of the core, each of whose calls is made by some client of the fleet."""

    fleet: ClassVar[Fleet]

    @initialize(definition=definitions(), seed=st.integers(0, 2**32))
    def open(self, definition: dict[str, Any], seed: int) -> None:
        self.fleet.reseed(seed)
        self.chance, self.told = random.Random(seed), 1
        self.written: dict[str, str] = {}
        super().open(definition)
        self.tell()

    @invariant()
    def what_was_written_is_in_the_format_that_was_told(self) -> None:
        if self.oracle is None:
            return
        records = records_of(self.raw, self.sale.id)
        for buyer, record in records.items():
            if record != self.written.get(buyer):
                assert record[0] == str(self.told), (buyer, record)
        self.written = records
        if not self.model.purged:
            self.tell()

    def tell(self) -> None:
        """Before the next step."""


class PhaseOne(TwoReleases):
    """Clients of both releases, which nobody tells anything."""


class PhaseTwo(TwoReleases):
    """Clients of the newer release, told to write the newer format, or the older again."""

    def tell(self) -> None:
        if len({record[0] for record in self.written.values()}) == 2:
            event("both formats")
        if self.chance.random() < 0.3:
            self.told = self.chance.choice([1, 2])
            tell(self.raw, self.sale.id, self.told)


class _Runs:
    machine: ClassVar[type[TwoReleases]]
    clients: ClassVar[tuple[str, ...]]

    @pytest.fixture(autouse=True)
    def _connected(
        self,
        request: pytest.FixtureRequest,
        server_url: str,
        raw: redis.Redis,
        new_sale_id: Callable[[], str],
    ) -> None:
        examples = 500 if request.config.getoption("--long") else 5
        type(self).settings = settings(SHORT, max_examples=examples)  # type: ignore[attr-defined]
        clients = [client for name in self.clients for client in request.getfixturevalue(name)]
        self.machine.fleet = Fleet(clients)
        self.machine.shop = self.machine.fleet.as_shop()
        self.machine.raw, self.machine.new_sale_id = raw, staticmethod(new_sale_id)


@pytest.mark.timeout(3_600)
class TestBothReleasesAnswerAsTheOracleWhicheverIsAsked(_Runs, PhaseOne.TestCase):
    machine, clients = PhaseOne, ("older", "newer")


@pytest.mark.timeout(3_600)
class TestBothFormatsInOneSaleAreReadAndTheOneToldIsWritten(_Runs, PhaseTwo.TestCase):
    machine, clients = PhaseTwo, ("newer",)


# --- an older client left over ------------------------------------------------------------


def refused(verb: Callable[[], object], message: str) -> None:
    """It raises, or says in every place of a bulk call, that it cannot read the format."""
    result: object = None
    with pytest.raises(ProtocolError, match=message):
        result = verb()
        if isinstance(result, list):
            assert len({str(item) for item in result}) == 1
            raise result[0]


@pytest.fixture
def newer_shop(newer: list[Client]) -> FlashSale:
    return Fleet(newer).as_shop()


@pytest.mark.parametrize("verb", [*VERBS, "open", "purge"])
def test_a_sale_told_the_newer_format_refuses_an_older_client_and_nobody_else(
    verb: str, lab: Lab, newer_shop: FlashSale
) -> None:
    sale, other = busy(lab), busy(lab)
    definition = sale.snapshot().sale
    refusing = {"open": lambda _: lab.shop.open(definition), "purge": lambda s: s.purge()} | VERBS
    serving = refusing | {"open": lambda _: newer_shop.open(definition)}
    tell(lab.raw, sale.id, 2)
    before = lab.dump(sale)
    message = f"{REFUSED} the sale is in format 2, this script reads 1"
    refused(lambda: refusing[verb](sale), message)
    assert lab.dump(sale) == before
    serving[verb](newer_shop.sale(sale.id))
    VERBS["hold"](other)


def rewritten(lab: Lab, sale: SaleHandle, newer: SaleHandle, *buyers: str) -> None:
    """Leave these buyers' records in format 2 in a sale that is in format 1 again."""
    tell(lab.raw, sale.id, 2)
    for buyer in buyers:
        newer.release(buyer, "never-held").unwrap()
    tell(lab.raw, sale.id, 1)
    records = records_of(lab.raw, sale.id)
    assert {buyer for buyer, record in records.items() if record[0] == "2"} == set(buyers)


MEETS_A_RECORD = [
    "hold, second",
    "confirm",
    "confirm in part",
    "confirm an extended one",
    "release",
    "release an extended one",
    "extend",
    "refund",
    "find",
]


@pytest.mark.parametrize("verb", VERBS)
def test_an_older_client_refuses_a_newer_record_and_goes_on_with_all_others(
    verb: str, lab: Lab, newer_shop: FlashSale
) -> None:
    sale = busy(lab)
    newer = newer_shop.sale(sale.id)
    rewritten(lab, sale, newer, "held", "extended", "paid")
    before = lab.dump(sale)
    if verb in MEETS_A_RECORD:
        refused(lambda: VERBS[verb](sale), RECORD_REFUSED)
        assert lab.dump(sale) == before
    else:
        VERBS[verb](sale)
        unread = {"held", "extended", "paid"}
        assert (
            records_of(lab.raw, sale.id).items()
            >= {
                buyer: record
                for buyer, record in as_text(before, lab, sale).items()
                if buyer in unread
            }.items()
        )
    VERBS[verb](newer)
    assert newer.audit().ok


def test_an_older_clients_audit_names_the_records_it_cannot_read(
    lab: Lab, newer_shop: FlashSale
) -> None:
    sale = busy(lab)
    rewritten(lab, sale, newer_shop.sale(sale.id), "held", "paid")
    report = sale.audit()
    assert not report.ok
    for buyer in ("held", "paid"):
        assert any(f"'{buyer}'" in problem for problem in report.problems), report.problems


def as_text(dump: dict[str, Any], lab: Lab, sale: SaleHandle) -> dict[str, str]:
    return {buyer.decode(): text.decode() for buyer, text in dump[lab.keys(sale).buyers].items()}


@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize("state", [HoldState.HELD, HoldState.CONFIRMED])
@pytest.mark.parametrize("verb", ["hold_many", "confirm_many", "release_many"])
def test_a_batch_that_meets_a_newer_record_is_refused_whole_and_goes_through_without_it(
    verb: str, state: HoldState, place: int, lab: Lab, newer_shop: FlashSale
) -> None:
    """Also where the batch is plain: a paid hold of format 2 is spelt as format 1's unpaid one."""
    sale = lab.open()
    newer = newer_shop.sale(sale.id)
    buyers = ["ann", "bob", "cyd"]
    strange = buyers[place]
    tell(lab.raw, sale.id, 2)
    newer.hold(strange, {"red": 1}, hold_id="h").unwrap()
    if state is HoldState.CONFIRMED:
        newer.confirm(strange, "h").unwrap()
    tell(lab.raw, sale.id, 1)
    spelling = "2h" if state is HoldState.CONFIRMED else "2c"
    assert records_of(lab.raw, sale.id)[strange].startswith(spelling)
    holds = [sale.hold(b, {"red": 1}, hold_id="h").unwrap() for b in buyers if b != strange]
    refs = [msgspec.structs.replace(holds[0], buyer=buyer).ref for buyer in buyers]
    known = [hold.ref for hold in holds]
    requests = [HoldRequest(buyer, {"red": 1}, "second") for buyer in buyers]
    everybody, others = (requests, [r for r in requests if r.buyer != strange])
    if verb != "hold_many":
        everybody, others = refs, known
    before = lab.dump(sale)
    refused(lambda: getattr(sale, verb)(everybody), RECORD_REFUSED)
    assert lab.dump(sale) == before
    for answer in getattr(sale, verb)(others):
        answer.unwrap()
    assert newer.find(strange, "h").state is state
    answers = getattr(newer, verb)(everybody)
    assert [answer.replayed for answer in answers if answer.buyer != strange] == [True, True]
    assert newer.audit().ok


@pytest.mark.parametrize("verb", SWEEPING)
def test_an_older_client_does_not_sweep_past_a_deadline_it_cannot_read(
    verb: str, lab: Lab, newer_shop: FlashSale
) -> None:
    sale = busy(lab)
    newer = newer_shop.sale(sale.id)
    rewritten(lab, sale, newer, "due-1")
    lab.set_time(sale, T0 + 1_000)
    start = newer.snapshot().sequence
    with lab.watch(newer) as seen:
        refused(lambda: VERBS[verb](sale), RECORD_REFUSED)
    # An entry of common holds that comes before it is swept, as a step of its own.
    assert seen.effect == "red a+1 h-1; blue a+1 h-1"
    assert seen.events == ["expired red*1 blue*1"]
    once = lab.dump(sale)
    refused(lambda: VERBS[verb](sale), RECORD_REFUSED)
    assert lab.dump(sale) == once
    assert newer.audit().ok

    newer.expire()
    swept = [e for entry in newer.ledger.read(after=start).entries for e in entry.events]
    assert [(e.kind, e.buyer) for e in swept] == [
        (EventKind.EXPIRED, f"due-{number}") for number in range(3)
    ]
    VERBS[verb](sale)
    assert sale.audit().ok


def test_a_newer_client_gives_a_buyer_back_to_older_ones_when_it_is_told_the_older_format(
    lab: Lab, newer_shop: FlashSale
) -> None:
    sale = busy(lab)
    newer = newer_shop.sale(sale.id)
    rewritten(lab, sale, newer, "held")
    refused(lambda: sale.confirm("held", "h"), RECORD_REFUSED)
    assert newer.extend("held", "h", deadline_ms=T0 + 2_000).outcome is Outcome.EXTENDED
    assert sale.confirm("held", "h").outcome is Outcome.CONFIRMED
    assert sale.audit().ok


# --- the end of a sale --------------------------------------------------------------------


@pytest.mark.parametrize("told", [1, 2])
@pytest.mark.parametrize("purger", ["older", "newer"])
def test_a_sale_with_both_formats_is_purged_and_its_tombstone_is_read_by_both(
    purger: str, told: int, lab: Lab, newer_shop: FlashSale
) -> None:
    sale = lab.open()
    newer = newer_shop.sale(sale.id)
    for buyer in ("ann", "bob"):
        sale.hold(buyer, {"red": 1}, hold_id="h").unwrap()
        sale.confirm(buyer, "h").unwrap()
    rewritten(lab, sale, newer, "bob")
    sale.end()
    definition = newer.snapshot().sale
    tell(lab.raw, sale.id, told)
    if purger == "older" and told == 2:
        before = lab.dump(sale)
        refused(sale.purge, f"{REFUSED} the sale is in format 2")
        assert lab.dump(sale) == before
        return
    first = (sale if purger == "older" else newer).purge()
    assert (first.outcome, first.replayed) == (Outcome.PURGED, False)
    assert [key for key, content in lab.dump(sale).items() if content] == [lab.keys(sale).sale]
    for handle, shop in ((sale, lab.shop), (newer, newer_shop)):
        again = handle.purge()
        assert (again.outcome, again.replayed) == (Outcome.PURGED, True)
        assert handle.hold("ann", {"red": 1}, hold_id="h").outcome is Outcome.PURGED
        with pytest.raises(Rejected, match="purged"):
            shop.open(definition)
