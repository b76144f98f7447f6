"""What the server pays per operation: INFO's user and system CPU, divided by the operations.

Commands are packed beforehand and sent pipelined on one connection, so that the figure is the
server's alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from loadtests.targets import peers
from loadtests.targets.bench import BATCH, SKU, Bench, Machine, Packed, expect_codes, until
from loadtests.targets.figures import Figure
from loadtests.targets.figures import peers as beside
from loadtests.targets.traffic import confirms, for_sale, hold_calls, orders, releases, sweeps

SUBJECT = "server"
ATTEMPTS_PER_UNIT = 1_000


def measure(bench: Bench) -> list[Figure]:
    """Winning holds, refusals, payments, returns, sweeps; each beside the classic script's."""
    machine, count = bench.machine(), bench.sizes.orders // BATCH * BATCH
    bench.say("server CPU: the classic script")
    classic = bench.rounds(_Classic(machine, count).measure)
    bench.say("server CPU: ours")
    ours = bench.rounds(_Ours(machine, count, bench.sizes.ttl_s).measure)
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


class _Ours:
    """Every verb, the commands of each packed once: the sales have the same ids in every round."""

    def __init__(self, machine: Machine, count: int, ttl_s: float) -> None:
        who = orders(count)
        pack = machine.pack
        self.machine, self.count, self.ttl_s = machine, count, ttl_s
        self.units = max(1, count // ATTEMPTS_PER_UNIT)
        self.paid, self.returned, self.due, self.hot = (machine.new_id() for _ in range(4))
        self.holds = {
            sale: pack(for_sale(call, sale) for call in hold_calls(who))
            for sale in (self.paid, self.returned, self.due, self.hot)
        }
        self.confirms = pack(confirms(self.paid, who))
        self.releases = pack(releases(self.returned, who))
        self.sweeps = pack(sweeps(self.due, count))

    def measure(self) -> dict[str, float]:
        """µs an operation; nothing counts unless every operation had the outcome meant."""
        machine, found = self.machine, {}
        machine.empty()
        all_due = self._leave_some_to_expire()
        machine.open(self.paid, stock=self.count)
        found["hold"] = self._cost(self.holds[self.paid], b"H")
        found["replay"] = self._cost(self.holds[self.paid], b"H")
        found["confirm"] = self._cost(self.confirms, b"C")
        machine.open(self.returned, stock=self.count)
        machine.send(self.holds[self.returned])
        found["release"] = self._cost(self.releases, b"R")
        machine.open(self.hot, stock=self.units)
        found["refusal"] = self._cost(self.holds[self.hot], b"Hs")
        if machine.shop.sale(self.hot).snapshot().skus[SKU].held != self.units:
            raise RuntimeError("not every unit was taken")
        until(all_due)
        spent, replies = machine.send(self.sweeps)
        if sum(reply[2] for reply in replies) != self.count:
            raise RuntimeError("the sweep did not expire every hold")
        found["expire"] = spent / self.count
        return found

    def _cost(self, packed: Packed, letters: bytes) -> float:
        spent, replies = self.machine.send(packed)
        expect_codes(replies, letters)
        return spent / self.count

    def _leave_some_to_expire(self) -> float:
        """Take holds that are due by the time returned, while other things are measured."""
        self.machine.open(self.due, ttl_ms=round(self.ttl_s * 1000))
        begun = time.monotonic()
        self.machine.send(self.holds[self.due])
        ended = time.monotonic()
        if ended - begun > self.ttl_s / 2:
            raise RuntimeError("too slow here: holds would fall due while they are taken")
        return ended + self.ttl_s + 0.1


class _Classic:
    """The classic script's take, pay and return, and what any call costs."""

    def __init__(self, machine: Machine, count: int) -> None:
        who = orders(count)
        self.machine, self.count = machine, count
        self.units = max(1, count // ATTEMPTS_PER_UNIT)
        scripts = {"hold": peers.HOLD, "pay": peers.PAY, "give back": peers.GIVE_BACK}
        self.packed = {
            (name, batch): peers.pack(machine, script, who, batch)
            for name, script in scripts.items()
            for batch in (1, BATCH)
        }
        sha = peers.load(machine, peers.NOTHING)
        bare = [("EVALSHA", sha, 1, peers.STOCK, *order) for order in who]
        self.bare = machine.pack(bare, peers.PIPELINED)
        self.decr = machine.pack([("DECR", peers.STOCK)] * count, peers.PIPELINED)

    def measure(self) -> dict[str, float]:
        """µs an order."""
        machine, found = self.machine, {}
        for batch in (1, BATCH):
            machine.empty()
            peers.stock_up(machine, self.count)
            for name in ("hold", "pay", "give back"):
                spent = peers.cost(machine, self.packed[name, batch], self.count)
                found[f"{name} {batch}"] = spent / self.count
            machine.empty()
            peers.stock_up(machine, self.units)
            spent = peers.cost(machine, self.packed["hold", batch], self.units)
            found[f"refusal {batch}"] = spent / self.count
        found["bare"] = machine.send(self.bare)[0] / self.count
        found["decr"] = machine.send(self.decr)[0] / self.count
        return found
