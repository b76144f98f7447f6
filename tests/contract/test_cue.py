"""Opening a cue: what is set aside, what is published beforehand, why one is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec
import pytest

from flashsale import (
    ConfigurationError,
    CueState,
    InvalidRequest,
    Outcome,
    Rejected,
    SaleHandle,
    StoreUnavailable,
    UnfairWindowWarning,
    draw,
    limits,
    window,
)
from flashsale.baskets import encode
from flashsale.cues import CueRequest
from flashsale.keys import CueKeys
from flashsale.ledger import EventKind
from flashsale.streamtime import StreamClock
from support.cues import (
    KEY,
    POSITION,
    Hand,
    Tap,
    Tower,
    contents,
    enter_all,
    keys_of,
    known_of,
    open_cue,
    settled,
    tap,
)
from support.lab import T0, Lab
from support.shells import connect

MINUTE = 60_000


def refusal(error: pytest.ExceptionInfo[Rejected]) -> Outcome:
    return error.value.outcome


# --- what it sets aside -------------------------------------------------------------------


def test_a_cue_sets_its_stock_aside_in_counters_ledger_and_view(lab: Lab) -> None:
    sale = lab.open()
    with lab.watch(sale) as seen:
        handle = open_cue(lab, sale, stock={"red": 3, "blue": 1})
    assert seen.effect == "red a-3 x+3; blue a-1 x+1"
    assert set(seen.events[0].split()) == {"set_aside", "red*3", "blue*1"}
    (event,) = sale.ledger.read(after=sale.snapshot().sequence - 1).entries[0].events
    assert (event.kind, event.cue, event.lines) == (
        EventKind.SET_ASIDE,
        "drop",
        {"red": 3, "blue": 1},
    )
    view = handle.view()
    assert (view.state, view.at_ms, view.entries, view.awarded) == (CueState.OPEN, T0, 0, 0)
    assert view.set_aside == handle.cue().stock == {"red": 3, "blue": 1}
    assert sale.cues() == ["drop"]
    assert sale.audit().problems == ()


def test_without_a_stock_all_that_is_available_of_the_sku_of_the_cues_name_is_set_aside(
    lab: Lab,
) -> None:
    sale = lab.open()
    sale.hold("ann", {"red": 4}, hold_id="h").unwrap()
    with lab.watch(sale) as seen:
        handle = open_cue(lab, sale, "red", stock=None)
    assert seen.effect == "red a-6 x+6"
    assert handle.cue().stock == {"red": 6}
    assert sale.audit().problems == ()


def test_what_is_set_aside_can_neither_be_held_nor_taken_off_the_allotment(lab: Lab) -> None:
    sale = lab.open({"red": 10})
    open_cue(lab, sale, stock={"red": 9})
    before = contents(lab, sale, "drop")
    answer = sale.hold("ann", {"red": 2}, hold_id="h")
    assert (answer.outcome, answer.may_return) == (Outcome.SOLD_OUT, True)
    assert sale.restock({"red": -2}, op_id="o").outcome is Outcome.BELOW_COMMITTED
    assert contents(lab, sale, "drop") == before
    assert sale.hold("ann", {"red": 1}, hold_id="h").outcome is Outcome.HELD
    assert sale.audit().problems == ()


def test_several_cues_of_a_sale_keep_their_stock_apart(lab: Lab) -> None:
    sale = lab.open()
    first, second = open_cue(lab, sale, "z"), open_cue(lab, sale, "a", stock={"red": 4})
    assert sale.cues() == ["z", "a"]
    assert sale.snapshot().skus["red"].set_aside == 7
    first.void("the link was wrong")
    lab.set_time(sale, first.cue().reveals_at_ms)
    assert first.give_back().outcome is Outcome.GIVEN_BACK
    assert second.view().set_aside == {"red": 4}
    assert sale.snapshot().skus["red"].set_aside == 4
    assert sale.audit().problems == ()


def test_a_cue_gets_what_has_fallen_due_however_many_sweeps_that_takes(lab: Lab) -> None:
    sale = lab.open({"red": 300})
    for n in range(300):
        sale.hold(f"b{n}", {"red": 1}, hold_id="h").unwrap()
    lab.set_time(sale, T0 + 1_000)
    open_cue(lab, sale, stock={"red": 300})
    assert sale.snapshot().skus["red"].set_aside == 300
    assert sale.audit().problems == ()


# --- what it fixes ------------------------------------------------------------------------


def test_the_times_of_a_cue_are_the_sums_that_its_documentation_gives(lab: Lab) -> None:
    cue = open_cue(
        lab, lab.open(), window_ms=2_500, windows=3, lag_cap_ms=700, grace_ms=40, spread_ms=9
    ).cue()
    assert cue.closes_at_ms == T0 + 3 * 2_500 + 700 + 40 + 9
    assert cue.reveals_at_ms == cue.closes_at_ms + window.SETTLING_MS
    assert (cue.position_ms, cue.cue_time_ms, cue.ahead_ms) == (POSITION, T0, 700)


def test_the_seed_is_committed_to_and_not_told_before_the_draw(lab: Lab) -> None:
    sale = lab.open()
    handle = open_cue(lab, sale)
    cue = handle.cue()
    known = known_of(handle)
    seed = draw.server_seed(KEY, sale.id, "drop", known.fresh)
    assert cue.seed_commitment == draw.seed_commitment(seed, sale.id, "drop")
    assert cue.key == KEY.id
    keys = CueKeys.of(sale.id, "drop")
    seen, sealed = str(lab.raw.hgetall(keys.cue)), str(lab.raw.hgetall(keys.secrets))
    assert seed.hex() not in seen + sealed
    for secret in (known.fresh.hex(), known.salt.hex(), cue.nonce):
        assert secret in sealed
        assert secret not in seen
    view = handle.view()
    assert (view.server_seed, view.digest, view.entropy) == ("", "", "")


def test_every_cue_has_a_nonce_of_its_own(lab: Lab) -> None:
    sale = lab.open()
    nonces = {open_cue(lab, sale, f"c{n}", stock={"red": 1}).cue().nonce for n in range(5)}
    assert len(nonces) == 5
    assert {len(bytes.fromhex(nonce)) for nonce in nonces} == {16}


def test_a_public_draw_names_a_round_later_than_the_close_and_a_margin(lab: Lab) -> None:
    cue = open_cue(lab, lab.open(), entropy=Tower()).cue()
    assert cue.entropy_source == "tower"
    assert cue.entropy_at_ms is not None
    assert cue.entropy_at_ms > cue.closes_at_ms + 60_000
    assert cue.reveals_at_ms == cue.entropy_at_ms + window.SETTLING_MS


def test_a_source_whose_round_would_be_known_too_early_is_refused(lab: Lab) -> None:
    class Early(Tower):
        def round_after(self, at_ms: int) -> tuple[int, int]:
            return 1, at_ms

    sale = lab.open()
    with pytest.raises(InvalidRequest, match="time of entropy.s round: must be later than"):
        open_cue(lab, sale, entropy=Early())
    assert sale.cues() == []


def test_a_source_needs_a_name(lab: Lab) -> None:
    with pytest.raises(InvalidRequest, match="name of entropy"):
        open_cue(lab, lab.open(), entropy=Tower(""))


def test_the_clock_says_when_the_position_is(lab: Lab) -> None:
    class At:
        ms = POSITION

    class Moment:
        server_ms = T0 + 70

    class Clock:
        asked: tuple[object, ...] = ()

        def server_time(self, position: object, *, now_ms: int) -> Moment:
            self.asked = (position,)
            return Moment()

    clock, at = Clock(), At()
    cue = open_cue(lab, lab.open(), at=at, clock=clock, cue_time_ms=None).cue()
    assert clock.asked == (at,)
    assert (cue.position_ms, cue.cue_time_ms) == (POSITION, T0 + 70)


# --- again --------------------------------------------------------------------------------


def test_the_same_cue_again_changes_nothing_whatever_the_clock_says_and_in_any_state(
    lab: Lab,
) -> None:
    sale = lab.open()
    first = open_cue(lab, sale).cue()
    steps: list[Callable[[], object]] = [
        lambda: None,
        lambda: lab.set_time(sale, T0 + 90_000),
        sale.pause,
        sale.end,
        lambda: sale.cue_handle("drop").void("nobody came"),
    ]
    for step in steps:
        step()
        before = contents(lab, sale, "drop")
        again = open_cue(lab, sale, cue_time_ms=T0 + 5_000).cue()
        assert contents(lab, sale, "drop") == before
        assert msgspec.structs.replace(again, stock=first.stock) == first
    assert sale.audit().problems == ()


def now_in(sale: SaleHandle) -> int:
    return sale.snapshot().at_ms


def empty_clock(sale: SaleHandle) -> StreamClock:
    return StreamClock()


def stale_clock(sale: SaleHandle) -> StreamClock:
    """One whose newest sample is a second older than it may be."""
    clock = StreamClock(max_age_ms=10_000)
    for back in (11_000, 12_000, 13_000):
        clock.add(POSITION - back, now_in(sale) - back)
    return clock


BAD_CLOCKS = {"empty": empty_clock, "stale": stale_clock}


@pytest.mark.parametrize("kind", BAD_CLOCKS)
def test_a_clock_that_cannot_know_the_time_opens_no_cue_and_sets_nothing_aside(
    lab: Lab, kind: str
) -> None:
    sale = lab.open()
    before = contents(lab, sale, "drop")
    with pytest.raises(InvalidRequest, match="clock: must"):
        open_cue(lab, sale, clock=BAD_CLOCKS[kind](sale), cue_time_ms=None)
    assert contents(lab, sale, "drop") == before
    assert sale.cues() == []
    assert sale.snapshot().skus["red"].set_aside == 0


@pytest.mark.parametrize("kind", BAD_CLOCKS)
def test_the_same_cue_again_needs_no_clock_and_another_definition_is_refused_without(
    lab: Lab, kind: str
) -> None:
    sale = lab.open()
    clock = StreamClock()
    for back in (0, 1_000, 2_000):
        clock.add(POSITION - back, now_in(sale) - back)
    first = open_cue(lab, sale, clock=clock, cue_time_ms=None).cue()
    before = contents(lab, sale, "drop")
    bad = BAD_CLOCKS[kind](sale)
    again = open_cue(lab, sale, clock=bad, cue_time_ms=None).cue()
    assert again == first
    with pytest.raises(Rejected) as error:
        open_cue(lab, sale, clock=bad, cue_time_ms=None, windows=2)
    assert refusal(error) is Outcome.CONFLICT
    assert contents(lab, sale, "drop") == before


@pytest.mark.parametrize(
    "change",
    [{"stock": {"red": 4}}, {"at": POSITION + 1}, {"windows": 2}, {"proof": False}],
    ids=lambda change: next(iter(change)),
)
def test_another_definition_of_a_cue_is_refused(lab: Lab, change: dict[str, Any]) -> None:
    sale = lab.open()
    open_cue(lab, sale)
    before = contents(lab, sale, "drop")
    with pytest.raises(Rejected) as error:
        open_cue(lab, sale, **change)
    assert refusal(error) is Outcome.CONFLICT
    assert contents(lab, sale, "drop") == before


def test_the_order_of_the_skus_and_the_kind_of_mapping_make_no_other_definition(lab: Lab) -> None:
    sale = lab.open()
    first = open_cue(lab, sale, stock={"red": 1, "blue": 2}).cue()
    again = open_cue(lab, sale, stock=MappingProxyType({"blue": 2, "red": 1})).cue()
    assert again == first


# --- refusals -----------------------------------------------------------------------------


def ended(lab: Lab) -> SaleHandle:
    sale = lab.open()
    sale.end()
    return sale


def purged(lab: Lab) -> SaleHandle:
    sale = ended(lab)
    sale.purge()
    return sale


def full_of_cues(lab: Lab) -> SaleHandle:
    sale = lab.open()
    cues: Mapping[Any, Any] = {f"c{n}": n for n in range(1_000)}
    lab.raw.hset(lab.keys(sale).cues, mapping=cues)
    return sale


@pytest.mark.parametrize(
    ("make", "rules", "outcome"),
    [
        (ended, {}, Outcome.ENDED),
        (purged, {}, Outcome.PURGED),
        (lambda lab: lab.shop.sale(lab.new_id()), {}, Outcome.SALE_UNKNOWN),
        (Lab.open, {"stock": {"green": 1}}, Outcome.SKU_UNKNOWN),
        (Lab.open, {"stock": {"red": 1, "green": 1}}, Outcome.SKU_UNKNOWN),
        (Lab.open, {"stock": None}, Outcome.SKU_UNKNOWN),
        (Lab.open, {"stock": {"red": 11}}, Outcome.SOLD_OUT),
        (Lab.open, {"stock": {"red": 1, "blue": 11}}, Outcome.SOLD_OUT),
        (Lab.open, {"cue_time_ms": T0 - 16_000}, Outcome.TOO_LATE),
        (full_of_cues, {}, Outcome.TOO_MANY_CUES),
    ],
    ids=lambda value: value.name if isinstance(value, Outcome) else "",
)
def test_a_cue_that_cannot_be_is_refused_and_changes_nothing(
    lab: Lab, make: Callable[[Lab], SaleHandle], rules: dict[str, Any], outcome: Outcome
) -> None:
    sale = make(lab)
    before = contents(lab, sale, "drop")
    with pytest.raises(Rejected) as error:
        open_cue(lab, sale, **rules)
    assert refusal(error) is outcome
    assert contents(lab, sale, "drop") == before


def test_a_sold_out_sku_leaves_nothing_to_set_aside(lab: Lab) -> None:
    sale = lab.open({"red": 0})
    with pytest.raises(Rejected) as error:
        open_cue(lab, sale, "red", stock=None)
    assert refusal(error) is Outcome.SOLD_OUT


def test_a_cue_is_too_late_when_it_would_be_closed_already_and_not_before(lab: Lab) -> None:
    sale = lab.open()
    lab.set_time(sale, T0 + 16_000)
    with pytest.raises(Rejected) as error:
        open_cue(lab, sale)
    assert refusal(error) is Outcome.TOO_LATE
    assert open_cue(lab, sale, cue_time_ms=T0 + 1).cue().closes_at_ms == T0 + 16_001


@pytest.mark.parametrize("hours", [(1, 0), (0, -1), (0, 0), (-5, 5)], ids=str)
def test_a_cue_lies_within_the_opening_hours_of_its_sale(lab: Lab, hours: tuple[int, int]) -> None:
    """Whoever is drawn then could not have held, or would hold when nobody else may."""
    opens, closes = T0 + hours[0], T0 + 16_000 + hours[1]
    sale = lab.open(opens_at_ms=opens, closes_at_ms=closes)
    before = contents(lab, sale, "drop")
    if opens > T0 or closes < T0 + 16_000:
        with pytest.raises(Rejected) as error:
            open_cue(lab, sale)
        assert error.value.outcome is (Outcome.NOT_OPEN if opens > T0 else Outcome.CLOSED)
        assert contents(lab, sale, "drop") == before
    else:
        handle = open_cue(lab, sale)
        assert handle.cue().closes_at_ms == T0 + 16_000
        assert tap(handle, "ann").outcome is Outcome.ENTERED
        lab.set_time(sale, closes)
        assert open_cue(lab, sale).cue() == handle.cue()  # the same again, after the closing
        assert settled(lab, sale, handle).awarded == 1  # and who was drawn holds, whatever the hour


def test_a_clock_that_has_jumped_is_not_believed(lab: Lab) -> None:
    sale, long_ago = lab.open(), 1_000_000_000_000
    lab.raw.hset(lab.keys(sale).sale, "now", long_ago)
    before = contents(lab, sale, "drop")
    request = CueRequest(id="drop", position_ms=POSITION, stock={"red": 3})
    opening = window.open_cue(
        sale.id, request, key=KEY, at=POSITION, clock=None, cue_time_ms=long_ago, entropy=None
    )
    with pytest.raises(Rejected) as error:
        Hand(lab, opening, caller_ms=long_ago).finish()
    assert refusal(error) is Outcome.CLOCK_JUMP
    assert contents(lab, sale, "drop") == before


def test_a_cue_opens_while_the_sale_is_paused(lab: Lab) -> None:
    sale = lab.open()
    sale.pause()
    assert open_cue(lab, sale).view().state is CueState.OPEN
    assert sale.audit().problems == ()


BOUNDS: list[tuple[dict[str, Any], str]] = [
    ({"at": -1}, "at: must be from 0"),
    ({"at": True}, "at: must be an int"),
    ({"at": "7000"}, "at: must be"),
    ({"cue_time_ms": None}, "clock: must be given"),
    ({"cue_time_ms": -1}, "cue_time_ms: must be from 1000000000000"),
    ({"stock": {}}, "stock: must name 1 to 32 skus"),
    ({"stock": [("red", 1)]}, "stock: must be a mapping"),
    ({"stock": {"red": 0}}, "stock of 'red': must be from 1"),
    ({"stock": {"r d": 1}}, "sku in stock: must be 1 to 64 characters"),
    ({"stock": {f"s{n}": 1 for n in range(33)}}, "stock: must name 1 to 32 skus"),
    ({"window_ms": 99}, "window_ms: must be from 100 to 600000"),
    ({"window_ms": 600_001}, "window_ms: must be from 100 to 600000"),
    ({"windows": 0}, "windows: must be from 1 to 100"),
    ({"windows": 101}, "windows: must be from 1 to 100"),
    ({"lag_cap_ms": 120_001}, "lag_cap_ms: must be from 0 to 120000"),
    ({"grace_ms": 60_001}, "grace_ms: must be from 0 to 60000"),
    ({"spread_ms": 60_001}, "spread_ms: must be from 0 to 60000"),
    ({"reserve_ms": -1}, "reserve_ms: must be from 0"),
    ({"entries_max": 0}, "entries_max: must be from 1"),
    ({"keep": "some"}, 'keep: must be "all" or "best"'),
    ({"proof": 1}, "proof: must be True or False"),
    ({"reserve": 1}, 'reserve: is for keep="best"'),
    ({"keep": "best", "stock": None}, 'stock: must be given with keep="best"'),
    ({"keep": "best", "stock": {"red": 1, "blue": 1}}, "stock: must name one sku"),
    ({"keep": "best", "entropy": Tower()}, 'entropy: must not be given with keep="best"'),
    ({"keep": "best", "reserve": 1_000_000}, "kept .* must be from 1 to 1000000"),
]


@pytest.mark.parametrize(("rules", "text"), BOUNDS, ids=[text for _, text in BOUNDS])
def test_a_cue_outside_its_bounds_is_told_what_is_wrong(
    lab: Lab, rules: dict[str, Any], text: str
) -> None:
    sale = lab.open()
    with pytest.raises(InvalidRequest, match=text):
        open_cue(lab, sale, **rules)
    assert sale.cues() == []


@pytest.mark.parametrize("cue_id", ["", "a b", "x" * 61, 7, None])
def test_the_id_of_a_cue_is_an_identifier_short_enough_for_a_hold_id(lab: Lab, cue_id: Any) -> None:
    sale = lab.open()
    with pytest.raises(InvalidRequest, match="cue: "):
        open_cue(lab, sale, cue_id)
    with pytest.raises(InvalidRequest, match="cue: "):
        sale.cue_handle(cue_id)


def test_the_longest_id_of_a_cue_does_all_that_others_do(lab: Lab) -> None:
    sale = lab.open()
    handle = open_cue(lab, sale, "x" * 60, stock={"red": 1})
    assert tap(handle, "ann").outcome is Outcome.ENTERED
    assert settled(lab, sale, handle).awarded == 1
    assert handle.result("ann", wait_ms=0).hold_id == "cue~" + "x" * 60
    assert sale.confirm("ann", "cue~" + "x" * 60).outcome is Outcome.CONFIRMED


@pytest.mark.parametrize("window_ms", [2_000, 1_999])
def test_a_window_below_two_seconds_warns_that_it_is_not_fair(lab: Lab, window_ms: int) -> None:
    sale = lab.open()
    if window_ms >= 2_000:
        open_cue(lab, sale, window_ms=window_ms)
        return
    with pytest.warns(UnfairWindowWarning, match="window_ms=1999: below 2000 ms"):
        open_cue(lab, sale, window_ms=window_ms)


def test_cues_need_a_key(lab: Lab, server_url: str) -> None:
    sale = lab.open()
    handle = open_cue(lab, sale)
    with connect("sync", server_url) as shop:
        with pytest.raises(ConfigurationError, match="keys: at least one Key"):
            open_cue(lab, shop.sale(sale.id), "other")
        other = shop.sale(sale.id).cue_handle("drop")
        assert other.view() == handle.view()  # but looking at one needs none
        with pytest.raises(ConfigurationError, match="keys: the key 'test'"):
            other.settle(wait=False)
    assert sale.cues() == ["drop"]


def test_whatever_is_asked_of_a_cue_that_is_not_there_is_rejected(lab: Lab) -> None:
    sale = lab.open()
    handle = sale.cue_handle("nothing")
    asks: list[Callable[[], object]] = [
        handle.cue,
        handle.view,
        handle.record,
        lambda: handle.settle(wait=False),
        lambda: handle.enter("ann", {"red": 1}, position_ms=POSITION),
    ]
    for ask in asks:
        with pytest.raises(Rejected) as error:
            ask()
        assert refusal(error) is Outcome.CUE_UNKNOWN
    assert handle.result("ann", wait_ms=0).outcome is Outcome.CUE_UNKNOWN
    assert handle.void("gone").outcome is Outcome.CUE_UNKNOWN


# --- its end ------------------------------------------------------------------------------


def test_a_settled_cue_cannot_be_voided(lab: Lab) -> None:
    sale = lab.open()
    handle = open_cue(lab, sale)
    tap(handle, "ann")
    settled(lab, sale, handle)
    before = contents(lab, sale, "drop")
    assert handle.void("too late").outcome is Outcome.SETTLED
    assert contents(lab, sale, "drop") == before


@pytest.mark.parametrize(
    ("reason", "text"),
    [("", "reason: must be said"), ("x" * 257, "reason: must be a str"), (3, "reason: must be")],
    ids=["empty", "long", "number"],
)
def test_a_reason_is_a_short_text(lab: Lab, reason: Any, text: str) -> None:
    handle = open_cue(lab, lab.open())
    with pytest.raises(InvalidRequest, match=text):
        handle.void(reason)
    assert handle.view().state is CueState.OPEN


def test_a_sale_is_not_purged_while_a_cue_keeps_stock_and_then_with_all_keys_of_its_cues(
    lab: Lab,
) -> None:
    sale = lab.open()
    open_cue(lab, sale, "a", keep="best", proof=False)
    b, c = open_cue(lab, sale, "b"), open_cue(lab, sale, "c")
    enter_all(lab, sale.cue_handle("a").cue(), [Tap("ann"), Tap("bob")])
    tap(b, "ann")
    c.void("not needed")
    settled(lab, sale, sale.cue_handle("a"))
    sale.end()
    before = contents(lab, sale, "a", "b", "c")
    assert sale.purge().outcome is Outcome.CUE_OPEN
    assert contents(lab, sale, "a", "b", "c") == before
    assert settled(lab, sale, b).awarded == 1
    assert sale.purge().outcome is Outcome.CUE_OPEN  # a void one keeps its stock, too
    lab.set_time(sale, c.cue().reveals_at_ms)
    assert c.give_back().outcome is Outcome.GIVEN_BACK
    assert sale.purge().outcome is Outcome.HOLDS_OUTSTANDING
    lab.set_time(sale, T0 + 20_000)
    assert sale.purge().outcome is Outcome.PURGED
    assert [key for key in keys_of(sale, "a", "b", "c") if lab.raw.exists(key)] == [
        lab.keys(sale).sale
    ]
    with pytest.raises(Rejected) as error:
        c.view()
    assert refusal(error) is Outcome.PURGED


def test_an_ended_sale_takes_no_entries_but_settles(lab: Lab) -> None:
    sale = lab.open()
    handle = open_cue(lab, sale)
    assert tap(handle, "ann").outcome is Outcome.ENTERED
    sale.end()
    assert tap(handle, "bob").outcome is Outcome.ENDED
    assert settled(lab, sale, handle).awarded == 1
    assert sale.confirm("ann", "cue~drop").outcome is Outcome.CONFIRMED
    assert sale.audit().problems == ()


def test_a_cue_whose_winners_deadlines_would_have_fourteen_digits_is_refused(lab: Lab) -> None:
    """Records keep times in thirteen digits; time to pay and reserve are up to 30 days each."""
    sale, at_ms = lab.open(), limits.TIME_MAX_MS - 2 * limits.DURATION_MAX_MS
    with pytest.raises(InvalidRequest, match="^cue_time_ms: must be earlier"):
        open_cue(lab, sale, cue_time_ms=at_ms)
    assert open_cue(lab, sale, cue_time_ms=at_ms - 60_000).cue().reveals_at_ms < at_ms


class Clock:
    """A clock that was fed with seconds, as `StreamClock` cannot know."""

    def __init__(self, server_ms: int) -> None:
        self.server_ms, self.uncertainty_ms = server_ms, 0

    def server_time(self, position: object, *, now_ms: int) -> Clock:
        return self


def test_seconds_are_refused_as_a_cues_time_its_position_and_what_a_clock_says(lab: Lab) -> None:
    now_ms = 1_763_900_000_000
    sale = lab.open()
    told = {
        "cue_time_ms": {"at": now_ms, "cue_time_ms": now_ms // 1_000},
        "at": {"at": now_ms // 1_000 - 60, "cue_time_ms": now_ms},
        "clock": {"at": now_ms, "cue_time_ms": None, "clock": Clock(now_ms // 1_000)},
    }
    before = lab.dump(sale)
    for field, rules in told.items():
        with pytest.raises(InvalidRequest, match=f"^{field}: must be .*looks like seconds"):
            open_cue(lab, sale, **rules)
    assert lab.dump(sale) == before


def test_a_tap_whose_player_tells_seconds_is_refused_where_the_cue_has_milliseconds(
    lab: Lab,
) -> None:
    handle = open_cue(lab, lab.open(), at=T0, cue_time_ms=T0, proof=False)
    with pytest.raises(InvalidRequest, match="^position_ms: must be milliseconds"):
        handle.enter("ann", {"red": 1}, position_ms=T0 // 1_000 + 1)
    early = handle.enter("ann", {"red": 1}, position_ms=7_000)  # of a timeline of its own
    assert early.outcome is Outcome.TOO_EARLY


def test_the_same_ids_on_another_server_share_no_secret(lab: Lab) -> None:
    """Staging with the production's key, sale and cue knows nothing of production's draw."""
    sale_id = lab.new_id()
    same = Lab(lab.shop, lab.raw, lambda: sale_id)
    seen: list[window.Known] = []
    for _ in range(2):  # as if on another server: the first one's keys are gone
        sale = same.open()
        handle = open_cue(same, sale)
        seen.append(known_of(handle))
        lab.raw.delete(*keys_of(sale, "drop"))
        lab.shop._cues.clear()
    first, second = seen
    assert first.fresh != second.fresh
    assert first.salt != second.salt
    assert first.cue.nonce != second.cue.nonce
    assert first.cue.seed_commitment != second.cue.seed_commitment
    for fresh in (b"", bytes(32), second.fresh):  # whoever has the key and guesses
        guess = draw.server_seed(KEY, sale_id, "drop", fresh)
        assert draw.seed_commitment(guess, sale_id, "drop") != first.cue.seed_commitment
    name = draw.entrant_of(first.salt, sale_id, "drop", "ann")
    assert name != draw.entrant_of(second.salt, sale_id, "drop", "ann")


def test_purging_a_sale_removes_the_sealed_keys_of_its_cues(lab: Lab) -> None:
    sale = lab.open()
    handle = open_cue(lab, sale)
    tap(handle, "ann")
    settled(lab, sale, handle)
    assert any(lab.raw.exists(key) for key in keys_of(sale, "drop") if "sealed" in key)
    sale.release("ann", handle.cue().hold_id).unwrap()
    sale.end()
    sale.purge().unwrap()
    assert [key for key in keys_of(sale, "drop") if lab.raw.exists(key)] == [lab.keys(sale).sale]


def test_lost_secrets_are_named_and_the_view_goes_on(lab: Lab, server_url: str) -> None:
    """Without them nobody can enter, be drawn or be named; but what is set aside can be seen."""
    sale = lab.open()
    handle = open_cue(lab, sale)
    lab.raw.hdel(CueKeys.of(sale.id, "drop").secrets, "salt")
    for shell in ("sync", "async"):
        with connect(shell, server_url, keys=[KEY]) as shop:
            other = shop.sale(sale.id).cue_handle("drop")
            ask: list[Callable[[], object]] = [
                other.cue,
                lambda other=other: other.enter("ann", {"red": 1}, position_ms=POSITION),
                lambda other=other: other.settle(wait=False),
            ]
            for call in ask:
                with pytest.raises(StoreUnavailable, match="DAMAGED the secrets of the cue drop"):
                    call()
            assert other.view().set_aside == {"red": 3}
    assert handle.void("its secrets are lost").outcome is Outcome.VOID


@pytest.mark.parametrize(
    "sealed",
    [[], ["fresh"], ["fresh", [1]], ["fresh", True], ["a", "b"] * 33],
    ids=["none", "a name alone", "a list", "a truth", "too many"],
)
def test_the_script_opens_no_cue_without_secrets_that_can_be_kept(
    lab: Lab, sealed: list[object]
) -> None:
    sale = lab.open()
    request = CueRequest(id="drop", position_ms=POSITION, stock={"red": 3})
    call: Any = window.open_cue(
        sale.id, request, key=KEY, at=POSITION, clock=None, cue_time_ms=T0, entropy=None
    ).send(None)
    before = contents(lab, sale, "drop")
    bad = msgspec.structs.replace(call, args=(*call.args[:-1], encode(sealed)))
    reply: Any = lab.run(bad, caller_ms=T0)
    assert reply[3] == b"!"
    assert contents(lab, sale, "drop") == before
