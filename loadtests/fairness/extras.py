"""What one crowd shows: that order is nothing, that a spread is calm, what a million costs."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import numpy as np

from flashsale import FlashSale, draw, settling, verify, window
from flashsale.batches import Item, run_all
from loadtests.fairness.crowd import make_crowd
from loadtests.fairness.drops import CUE_AT_MS, KEY, LONG_MS, POSITION_MS, WINDOW_MS, Stage
from loadtests.targets.figures import Figure

SUBJECT = "fairness"


def permutations(shop: FlashSale, by_server: int, pure: int) -> Figure:
    """500 taps of 400 buyers, in any order: how many different lists of winners there are."""
    stage, chance = Stage(shop), random.Random(7)
    taps = [(f"b{n % 400}", POSITION_MS + chance.randrange(2 * WINDOW_MS)) for n in range(500)]
    lists, cue = set(), None
    for _ in range(by_server):
        chance.shuffle(taps)
        stage.raw.flushall()
        sale = stage.open("order", 40)
        handle = sale.cue(
            "x", at=POSITION_MS, cue_time_ms=CUE_AT_MS, stock={"x": 40}, windows=2, proof=False
        )
        known = shop.perform(window.know("order", "x"))
        stage.set_time("order", CUE_AT_MS + 9_000)
        kind = window.enter_kind("order", known)

        def check(tap: tuple[str, int], known: window.Known = known) -> Item:
            return window.enter_item(known, tap[0], {"x": 1}, tap[1], None, None)

        shop.perform(run_all(kind, taps, check))
        stage.set_time("order", known.cue.closes_at_ms)
        handle.settle(wait=False)
        record: Any = handle.record()
        lists.add(json.dumps(record["drawn"]))
        cue = known.cue
    assert cue is not None
    salt, seed = draw.salt(KEY, cue.sale, cue.id), draw.server_seed(KEY, cue.sale, cue.id)
    for _ in range(pure):
        chance.shuffle(taps)
        entries = [(who, (at - POSITION_MS) // WINDOW_MS, (("x", 1, 1),)) for who, at in taps]
        drawn = draw.draw(draw.freeze(cue, salt, entries, at_ms=cue.closes_at_ms), seed)
        lists.add(json.dumps([[who, [list(line) for line in lot]] for who, lot in drawn.winners]))
    return Figure(
        subject=SUBJECT, name="different lists of winners over permutations of the arrivals",
        value=len(lists), unit="", bound=1,
        note=f"500 taps: {by_server} orders through the server, {pure:,} through the functions of "
        "flashsale.draw",
    )  # fmt: skip


def spread(viewers: int) -> Figure:
    """The busiest tenth of a second when players delay their sending by up to 2 s."""
    calm, plain = (make_crowd(3, viewers, bias_ms=0, spread_ms=ms) for ms in (2_000, 0))
    busiest = [
        int(np.bincount((crowd.arrival_ms[crowd.cohort == 0] // 100).astype(int)).max())
        for crowd in (calm, plain)
    ]
    same = bool((calm.position_ms == plain.position_ms).all())
    return Figure(
        subject=SUBJECT, name="peak arrivals with spread_ms=2,000 ÷ without", unit="×",
        value=busiest[0] / busiest[1], bound=0.2,
        note=f"the fastest cohort, per 100 ms: {busiest[0]:,} and {busiest[1]:,}; positions, and "
        f"so the entries, are {'the same' if same else 'NOT the same'}",
    )  # fmt: skip


def million(shop: FlashSale, entrants: int) -> list[Figure]:
    """What so many entrants cost, with either way of keeping them; 10,000 units."""
    lines = []
    for keep in ("all", "best"):
        stage = Stage(shop)
        stage.raw.flushall()
        sale = stage.open(f"many-{keep}", 10_000)
        handle = sale.cue(
            "x", at=POSITION_MS, cue_time_ms=CUE_AT_MS, stock={"x": 10_000}, keep=keep, proof=False
        )
        known = shop.perform(window.know(sale.id, "x"))
        stage.set_time(sale.id, CUE_AT_MS + 9_000)

        def check(n: int, known: window.Known = known) -> Item:
            who = f"buyer-{n:09}"
            return window.enter_item(known, who, {"x": 1}, POSITION_MS + n % 3_000, None, KEY)

        memory, cpu, begun = stage.raw.info("memory")["used_memory"], _cpu(stage), time.monotonic()
        kind = window.enter_kind(sale.id, known)
        shop.perform(run_all(kind, range(entrants), check), LONG_MS)
        took, spent = time.monotonic() - begun, _cpu(stage) - cpu
        grown = stage.raw.info("memory")["used_memory"] - memory
        stage.set_time(sale.id, known.cue.closes_at_ms)
        times = [time.monotonic()]
        frozen = shop.perform(settling.freeze(sale.id, "x"), LONG_MS)
        times.append(time.monotonic())
        shop.perform(settling.finish(frozen, KEY, None), LONG_MS)
        times.append(time.monotonic())
        text = json.dumps(handle.record(timeout_ms=LONG_MS))
        times.append(time.monotonic())
        ok = verify.verify(verify.load(text)).ok
        times.append(time.monotonic())
        freeze, settle, record, check_s = np.diff(times)
        lines += [
            Figure(
                subject=SUBJECT, name=f'{entrants:,} entrants, keep="{keep}": entries', unit="/s",
                value=entrants / took, note=f"server CPU {1e6 * spent / entrants:.2f} µs an entry",
            ),
            Figure(
                subject=SUBJECT, name=f'{entrants:,} entrants, keep="{keep}": memory', unit="B",
                value=grown / entrants, note="an entrant",
            ),
            Figure(
                subject=SUBJECT, name=f'{entrants:,} entrants, keep="{keep}": settlement', unit="s",
                value=float(freeze + settle),
                note=f"freeze and digest {freeze:.1f}, draw and 10,000 holds {settle:.1f}; record "
                f"{record:.1f} s and {len(text) / 1e6:.1f} MB, verified in {check_s:.1f} s: "
                f"{'ok' if ok else 'NOT OK'}",
            ),
        ]  # fmt: skip
    return lines


def _cpu(stage: Stage) -> float:
    info = stage.raw.info("cpu")
    return float(info["used_cpu_user"] + info["used_cpu_sys"])
