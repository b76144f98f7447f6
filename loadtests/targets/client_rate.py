"""What one Python process reaches through the public clients, and the same work done otherwise."""

from __future__ import annotations

from collections.abc import Callable

from flashsale.server_check import Durability
from loadtests.targets import peers, ways
from loadtests.targets.bench import Bench
from loadtests.targets.figures import Figure
from loadtests.targets.figures import peers as beside
from loadtests.targets.loops import loop_factories, rates
from loadtests.targets.postgres import postgres_rate
from loadtests.targets.traffic import orders

SUBJECT = "client"
_POSTGRES = "PostgreSQL, 100 by hand, fsync"


def measure(bench: Bench) -> list[Figure]:
    """Awaited holds, `hold_many`, threads, and the awaited holds of the fsync level."""
    return [*_awaited(bench), *_many(bench), *_threads(bench), *_fsync(bench)]


def capacity(bench: Bench, durability: Durability) -> dict[str, float]:
    """Orders a second of awaited holds and of the classic script, on the fastest loop."""
    if durability not in bench.capacities:
        machine = bench.machine(durability)
        factory = next(iter(loop_factories().values()))
        runs = {
            "ours": ways.awaited(machine, factory, bench.sizes.tasks),
            peers.ONE: ways.classic_awaited(machine, factory),
            peers.BY_HAND: ways.classic_by_hand(machine, factory),
        }
        bench.capacities[durability] = rates(bench.sizes, runs, _say(bench, durability))
    return bench.capacities[durability]


def _say(bench: Bench, durability: str = "memory") -> Callable[[str], None]:
    return lambda name: bench.say(f"one process, {durability}: {name}")


def _awaited(bench: Bench) -> list[Figure]:
    machine, factories = bench.machine(), loop_factories()
    fastest, *others = factories
    found = capacity(bench, "memory")
    ours, one, by_hand = found["ours"], found[peers.ONE], found[peers.BY_HAND]
    figures = [
        Figure(
            subject=SUBJECT, name=f"awaited hold, {fastest}", value=ours, unit="/s",
            bound=400_000, at_least=True, peers=beside({peers.ONE: one, peers.BY_HAND: by_hand}),
            note="583,000 is the moonshot",
        ),
        Figure(
            subject=SUBJECT, name=f"awaited hold ÷ {peers.ONE}", value=ours / one, unit="×",
            bound=15, at_least=True, peers=beside({f"÷ {peers.BY_HAND}": ours / by_hand}),
        ),
    ]  # fmt: skip
    for name in others:
        runs = {
            "ours": ways.awaited(machine, factories[name], bench.sizes.tasks),
            peers.ONE: ways.classic_awaited(machine, factories[name]),
        }
        plain = rates(bench.sizes, runs, _say(bench))
        figures.append(
            Figure(
                subject=SUBJECT, name=f"awaited hold, {name}", value=plain["ours"], unit="/s",
                peers=beside({peers.ONE: plain[peers.ONE]}),
            )
        )  # fmt: skip
    return figures


def _many(bench: Bench) -> list[Figure]:
    machine = bench.machine()
    factory = next(iter(loop_factories().values()))
    sync = "hold_many, FlashSale"
    runs = {
        "hold_many, AsyncFlashSale": ways.many(machine, factory),
        sync: ways.many_sync(machine),
        peers.BY_HAND: ways.classic_by_hand(machine, factory),
    }
    found = rates(bench.sizes, runs, _say(bench))
    values = {name: found[name] for name in (sync, peers.BY_HAND)}
    return [
        Figure(
            subject=SUBJECT, name=f"hold_many, {ways.MANY:,} a call",
            value=found["hold_many, AsyncFlashSale"], unit="/s", bound=700_000, at_least=True,
            peers=beside(values),
        )
    ]  # fmt: skip


def _threads(bench: Bench) -> list[Figure]:
    machine, count = bench.machine(), bench.sizes.threads
    name = f"FlashSale, {count} threads"
    runs = {
        name: ways.threads(machine, count),
        f"{peers.ONE}, {count} threads": ways.classic_threads(machine, count),
    }
    ours, classic = rates(bench.sizes, runs, _say(bench)).values()
    return [
        Figure(
            subject=SUBJECT, name=f"hold, {name}", value=ours, unit="/s",
            peers=beside({f"{peers.ONE}, {count} threads": classic}),
        ),
        Figure(
            subject=SUBJECT, name=f"{name} ÷ {peers.ONE}", value=ours / classic, unit="×",
            bound=8, at_least=True,
        ),
    ]  # fmt: skip


def _fsync(bench: Bench) -> list[Figure]:
    memory, fsync = capacity(bench, "memory"), capacity(bench, "fsync")
    ours = fsync["ours"]
    others = {"memory level": memory["ours"]}
    others |= {name: fsync[name] for name in (peers.ONE, peers.BY_HAND)}
    if bench.postgres is not None:
        bench.say(_POSTGRES)
        count = max(1_000, round(40_000 * bench.sizes.seconds))
        others[_POSTGRES] = postgres_rate(bench.postgres, orders(count))
    ratios = {f"{name} ÷ the same, memory": fsync[name] / memory[name]
              for name in (peers.ONE, peers.BY_HAND)}  # fmt: skip
    figures = [
        Figure(
            subject=SUBJECT, name="awaited hold, fsync level", value=ours, unit="/s",
            peers=beside(others),
        ),
        Figure(
            subject=SUBJECT, name="fsync level ÷ memory level", value=ours / memory["ours"],
            unit="×", bound=0.5, at_least=True, peers=beside(ratios),
        ),
    ]  # fmt: skip
    if bench.postgres is not None:
        figures.append(
            Figure(
                subject=SUBJECT, name=f"fsync level ÷ {_POSTGRES}", value=ours / others[_POSTGRES],
                unit="×", bound=3, at_least=True,
            )
        )  # fmt: skip
    return figures
