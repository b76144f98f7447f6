"""What the server pays per operation: INFO's user and system CPU, divided by the operations.

Commands are packed beforehand and sent pipelined on one connection, so that the figure is the
server's alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from loadtests.targets import peers
from loadtests.targets.bench import BATCH, SKU, Bench, Machine, expect_codes, until
from loadtests.targets.figures import Figure
from loadtests.targets.figures import peers as beside
from loadtests.targets.traffic import Order, confirms, holds, orders, releases, sweeps

SUBJECT = "server"
ATTEMPTS_PER_UNIT = 1_000


def measure(bench: Bench) -> list[Figure]:
    """Winning holds, refusals, payments, returns, sweeps; each beside the classic script's."""
    count = bench.sizes.orders // BATCH * BATCH
    who, losers = orders(count), orders(count, count)
    machine = bench.machine()
    bench.say("server CPU: ours")
    ours = bench.rounds(lambda: _round(machine, who, losers, bench.sizes.ttl_s))
    bench.say("server CPU: the classic script")
    classic = bench.rounds(lambda: _classic_round(machine, who))
    machine.empty()
    return _figures(ours, classic)


def _figures(ours: Mapping[str, float], classic: Mapping[str, float]) -> list[Figure]:
    floor = {peers.BARE_DECR: classic["decr"], peers.BARE: classic["bare"]}

    def line(name: str, key: str, bound: float | None, peer: str) -> Figure:
        values = {
            peers.ONE: classic[f"{peer} 1"],
            peers.BY_HAND: classic[f"{peer} {BATCH}"],
            **floor,
        }
        return Figure(
            subject=SUBJECT, name=f"server CPU per {name}", value=ours[key], unit="µs",
            bound=bound, peers=beside(values),
        )  # fmt: skip

    ratio = Figure(
        subject=SUBJECT, name=f"server CPU per winning hold ÷ {peers.ONE}",
        value=ours["hold"] / classic["hold 1"], unit="×", bound=0.25,
        peers=beside({f"÷ {peers.BY_HAND}": ours["hold"] / classic[f"hold {BATCH}"]}),
    )  # fmt: skip
    return [
        line("winning hold", "hold", 1.2, "hold"),
        ratio,
        line("replayed hold", "replay", None, "hold"),
        line("attempt, 1000 a unit", "refusal", 0.4, "refusal"),
        line("confirm", "confirm", 1.6, "pay"),
        line("release", "release", 1.6, "give back"),
        line("expired hold", "expire", 1.6, "give back"),
    ]


def _round(
    machine: Machine, who: list[Order], losers: list[Order], ttl_s: float
) -> dict[str, float]:
    count, figures = len(who), {}
    machine.empty()
    due = machine.open(ttl_ms=round(ttl_s * 1000))
    packed = holds(due, who)
    begun = time.monotonic()
    machine.send(packed)
    all_due = time.monotonic() + ttl_s
    if all_due - begun > 1.5 * ttl_s:
        raise RuntimeError("this machine is too slow: holds would fall due while they are taken")

    sale = machine.open(stock=count)
    spent, replies = machine.send(holds(sale, who))
    expect_codes(replies, b"H")
    figures["hold"] = spent / count
    spent, replies = machine.send(holds(sale, who))
    expect_codes(replies, b"H")
    figures["replay"] = spent / count
    spent, replies = machine.send(confirms(sale, who))
    expect_codes(replies, b"C")
    figures["confirm"] = spent / count

    sale = machine.open(stock=count)
    machine.send(holds(sale, who))
    spent, replies = machine.send(releases(sale, who))
    expect_codes(replies, b"R")
    figures["release"] = spent / count

    units = max(1, count // ATTEMPTS_PER_UNIT)
    sale = machine.open(stock=units)
    spent, replies = machine.send(holds(sale, losers))
    expect_codes(replies, b"Hs")
    if machine.shop.sale(sale).snapshot().skus[SKU].held != units:
        raise RuntimeError("not every unit was taken")
    figures["refusal"] = spent / count

    until(all_due + 0.1)
    spent, replies = machine.send(sweeps(due, count))
    if sum(reply[2] for reply in replies) != count:
        raise RuntimeError("the sweep did not expire every hold")
    figures["expire"] = spent / count
    return figures


def _classic_round(machine: Machine, who: list[Order]) -> dict[str, float]:
    figures, count = {}, len(who)
    units = max(1, count // ATTEMPTS_PER_UNIT)
    for batch in (1, BATCH):
        machine.empty()
        peers.stock_up(machine, count)
        for name, script in (
            ("hold", peers.HOLD), ("pay", peers.PAY), ("give back", peers.GIVE_BACK)
        ):  # fmt: skip
            figures[f"{name} {batch}"] = peers.cost(machine, script, who, batch)
        machine.empty()
        peers.stock_up(machine, units)
        figures[f"refusal {batch}"] = peers.cost(machine, peers.HOLD, who, batch, wins=units)
    bare = peers.load(machine, peers.NOTHING)
    part = who[: max(1, count // 4)]
    spent, _ = machine.send([("EVALSHA", bare, 1, peers.STOCK, *order) for order in part], 500)
    figures["bare"] = spent / len(part)
    spent, _ = machine.send([("DECR", peers.STOCK)] * len(part), 500)
    figures["decr"] = spent / len(part)
    return figures
