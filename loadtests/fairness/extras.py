"""What one crowd shows: that the order of arrival is nothing, and what a million costs."""

from __future__ import annotations

import json
import random
import time
from typing import Any, TypeVar

import numpy as np

from flashsale import FlashSale, draw, freezing, settling, verify, window
from flashsale.batches import Item, run_all
from flashsale.calls import Compute, Operation
from loadtests.fairness.drops import CUE_AT_MS, KEY, LONG_MS, POSITION_MS, WINDOW_MS, Stage
from loadtests.targets.figures import Figure

T = TypeVar("T")

SUBJECT = "fairness"


def permutations(shop: FlashSale, by_server: int, pure: int) -> Figure:
    """500 taps of 400 buyers, in any order: how many different lists of winners there are.

    Each time from the same moment, at which the cue has opened and nobody has entered.
    """
    stage, chance = Stage(shop), random.Random(7)
    taps = [(f"b{n % 400}", POSITION_MS + chance.randrange(2 * WINDOW_MS)) for n in range(500)]
    known = _opened(stage)
    kind = window.enter_kind("order", known)
    items = [window.enter_item(known, who, {"x": 1}, at, None, None) for who, at in taps]
    start = {key: stage.raw.dump(key) for key in stage.raw.scan_iter()}
    lists = set()
    for _ in range(by_server):
        stage.raw.flushall()
        for key, content in start.items():
            stage.raw.restore(key, 0, content)
        chance.shuffle(items)
        shop.perform(run_all(kind, items, lambda item: item))
        lists.add(_winners_of_server(stage, known))
    for _ in range(pure):
        chance.shuffle(taps)
        lists.add(_winners_of_functions(known, taps))
    return Figure(
        subject=SUBJECT, name="different lists of winners over permutations of the arrivals",
        value=len(lists), unit="", bound=1, must=True,
        note=f"500 taps: {by_server:,} orders through the server, {pure:,} through the functions "
        "of flashsale.draw",
    )  # fmt: skip


def _opened(stage: Stage) -> window.Known:
    stage.raw.flushall()
    sale = stage.open("order", 40)
    sale.cue("x", at=POSITION_MS, cue_time_ms=CUE_AT_MS, stock={"x": 40}, windows=2, proof=False)
    stage.set_time("order", CUE_AT_MS + 9_000)
    return stage.shop.perform(window.know("order", "x"))


def _winners_of_server(stage: Stage, known: window.Known) -> str:
    stage.set_time("order", known.cue.reveals_at_ms)
    handle = stage.shop.sale("order").cue_handle("x")
    handle.settle(wait=False)
    return json.dumps(handle.record()["drawn"])


def _winners_of_functions(known: window.Known, taps: list[tuple[str, int]]) -> str:
    cue = known.cue
    entries = [(who, (at - POSITION_MS) // WINDOW_MS, (("x", 1, 1),)) for who, at in taps]
    frozen = draw.freeze(cue, known.salt, entries, at_ms=cue.closes_at_ms)
    drawn = draw.draw(frozen, draw.server_seed(KEY, cue.sale, cue.id, known.fresh))
    return json.dumps([[who, [list(line) for line in lot]] for who, lot in drawn.winners])


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
        times, drawing = [time.monotonic()], []
        frozen = shop.perform(freezing.freeze(sale.id, "x"), LONG_MS)
        times.append(time.monotonic())
        stage.set_time(sale.id, known.cue.reveals_at_ms)
        ready = shop.perform(_timing(settling.prepare(frozen, KEY, None), drawing), LONG_MS)
        shop.perform(settling.finish(ready), LONG_MS)
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
                note=f"freeze and digest {freeze:.2f}, draw {sum(drawing):.2f}, 10,000 holds and "
                f"reveal {settle - sum(drawing):.2f}; record {record:.1f} s and "
                f"{len(text) / 1e6:.1f} MB, verified in {check_s:.1f} s: {'' if ok else 'NOT '}ok",
            ),
        ]  # fmt: skip
    return lines


def _timing(operation: Operation[T], seconds: list[float]) -> Operation[T]:
    """The same, noting how long it computes: what settling has to compute is the draw."""
    reply: Any = None
    while True:
        try:
            step = operation.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result
        begun = time.monotonic()
        reply = yield step
        if isinstance(step, Compute):
            seconds.append(time.monotonic() - begun)


def _cpu(stage: Stage) -> float:
    info = stage.raw.info("cpu")
    return float(info["used_cpu_user"] + info["used_cpu_sys"])
