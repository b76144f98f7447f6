"""Whether a noisy sale starves a quiet one that shares its client."""

from __future__ import annotations

import asyncio
import statistics
import time

from flashsale import Outcome
from flashsale.aio import AsyncSaleHandle
from loadtests.targets.bench import BASKET, Bench, settle
from loadtests.targets.figures import Figure
from loadtests.targets.figures import peers as beside
from loadtests.targets.loops import loop_factories, run
from loadtests.targets.ways import async_shop

SUBJECT = "sharing"
EVERY_S = 0.002


def measure(bench: Bench) -> list[Figure]:
    """A caller of the quiet sale, alone and beside the crowd; and one of the crowd."""
    crowd_size = 4 * bench.sizes.tasks
    bench.say(f"a quiet sale beside {crowd_size:,} callers of another")
    fastest, factory = next(iter(loop_factories().items()))
    alone, beside_crowd, crowd = run(factory, _waits(bench, crowd_size))
    return [
        Figure(
            subject=SUBJECT, name=f"quiet sale beside {crowd_size:,} callers of another, p50",
            value=beside_crowd, unit="ms",
            peers=beside({"the quiet sale alone": alone, "one of the crowd": crowd}),
            note=f"{fastest}, one client",
        )
    ]  # fmt: skip


async def _waits(bench: Bench, crowd_size: int) -> tuple[float, float, float]:
    machine = bench.machine()
    machine.empty()
    quiet_id, noisy_id = machine.open(), machine.open()
    asks = max(20, round(bench.sizes.seconds * 100))
    async with async_shop(machine) as shop:
        quiet, noisy = shop.sale(quiet_id), shop.sale(noisy_id)
        settle()
        alone = await _ask(quiet, "alone", asks)
        waits: list[float] = []
        going_on = True

        async def caller(number: int) -> None:
            turn = 0
            while going_on:
                waits.append(await _timed(noisy, f"n{number}-{turn}"))
                turn += 1

        async with asyncio.TaskGroup() as group:
            for number in range(crowd_size):
                group.create_task(caller(number))
            await asyncio.sleep(0.3)
            waits.clear()
            beside_crowd = await _ask(quiet, "beside", asks)
            going_on = False
        return alone, beside_crowd, statistics.median(waits) * 1000


async def _ask(sale: AsyncSaleHandle, name: str, times: int) -> float:
    """The median wait of one caller, in milliseconds."""
    waits = []
    for n in range(times):
        waits.append(await _timed(sale, f"{name}-{n}"))
        await asyncio.sleep(EVERY_S)
    return statistics.median(waits) * 1000


async def _timed(sale: AsyncSaleHandle, buyer: str) -> float:
    begun = time.perf_counter()
    answer = await sale.hold(buyer, BASKET, hold_id="h")
    assert answer.outcome is Outcome.HELD
    return time.perf_counter() - begun
