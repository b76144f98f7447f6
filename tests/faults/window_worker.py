"""A process that enters buyers into a cue, or settles it as far as it is let.

    python window_worker.py URL SALE enter sync|async FIRST LAST SEED
    python window_worker.py URL SALE settle sync|async

Entering ends with the line "entered". Settling tells the script of every call and waits for a line
before it makes it: "step", or "run" to be asked no more.
"""

from __future__ import annotations

import random
import sys
from typing import Any

from flashsale import FlashSale, Outcome, freezing, settling, window
from flashsale.batches import run_all
from flashsale.calls import Call, Operation
from support.cues import KEY, POSITION
from support.shells import connect


def taps_of(first: int, last: int) -> list[tuple[str, int]]:
    """Who taps when: some in the second window, some twice."""
    taps = [(f"b{n}", 100 * (n % 60)) for n in range(first, last)]
    return taps + [(buyer, 5_900 - after_ms) for buyer, after_ms in taps[::3]]


def enter(shop: FlashSale, sale: str, first: int, last: int, seed: int) -> None:
    taps = taps_of(first, last)
    random.Random(seed).shuffle(taps)
    known = shop.perform(window.know(sale, "drop"))
    for start in range(0, len(taps), 7):
        answers = shop.perform(
            run_all(
                window.enter_kind(sale, known),
                taps[start : start + 7],
                lambda tap: window.enter_item(
                    known, tap[0], {"red": 1}, POSITION + tap[1], None, KEY
                ),
            )
        )
        assert {answer.outcome for answer in answers} == {Outcome.ENTERED}  # type: ignore[union-attr]
    sys.stdout.write("entered\n")


def told(operation: Operation[Any]) -> Operation[Any]:
    """The same, each call told and made when it may be."""
    reply, asked = None, True
    while True:
        try:
            step = operation.send(reply)
        except StopIteration as end:
            return end.value
        if asked and isinstance(step, Call):
            sys.stdout.write(f"{step.script.name}\n")
            sys.stdout.flush()
            asked = sys.stdin.readline().strip() != "run"
        reply = yield step


def settle(shop: FlashSale, sale: str) -> None:
    settling.CHUNK = 3

    def whole() -> Operation[Any]:
        frozen = yield from freezing.freeze(sale, "drop")
        ready = yield from settling.prepare(frozen, KEY, None)
        return (yield from settling.finish(ready))

    settled = shop.perform(told(whole()), 60_000)
    sys.stdout.write(f"{settled.outcome.value} {settled.awarded}\n")


def main(url: str, sale: str, what: str, shell: str, *more: str) -> None:
    with connect(shell, url, timeout_ms=20_000, keys=[KEY]) as shop:
        if what == "enter":
            enter(shop, sale, *map(int, more))
        else:
            settle(shop, sale)


if __name__ == "__main__":
    main(*sys.argv[1:])
