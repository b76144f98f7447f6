"""What an order leaves behind on the server, and what it costs on the wire."""

from __future__ import annotations

from loadtests.targets import peers
from loadtests.targets.bench import BATCH, Bench, Machine, Packed
from loadtests.targets.figures import Figure
from loadtests.targets.figures import peers as beside
from loadtests.targets.traffic import holds, orders

SUBJECT = "size"


def measure(bench: Bench) -> list[Figure]:
    """Bytes per held order: memory (ledger included), and both directions of the wire."""
    bench.say("memory and wire")
    machine = bench.machine()
    who = orders(bench.sizes.orders // BATCH * BATCH)
    memory: dict[str, float] = {}
    wire: dict[str, float] = {}

    machine.empty()
    sale = machine.open(stock=len(who))
    ours = _per_order(machine, machine.pack(holds(sale, who)), len(who))
    for name, batch in ((peers.ONE, 1), (peers.BY_HAND, BATCH)):
        machine.empty()
        peers.stock_up(machine, len(who))
        packed = peers.pack(machine, peers.HOLD, who, batch)
        memory[name], came, went = _per_order(machine, packed, len(who))
        wire[name] = came + went
    machine.empty()
    packed = machine.pack([("DECR", peers.STOCK)] * len(who), peers.PIPELINED)
    _, came, went = _per_order(machine, packed, len(who))
    wire[peers.BARE_DECR] = came + went

    both = ours[1] + ours[2]
    split = f"{ours[1]:.1f} in, {ours[2]:.1f} out"
    return [
        Figure(
            subject=SUBJECT, name="memory per held order, ledger included", value=ours[0],
            unit="B", bound=120, peers=beside(memory),
        ),
        Figure(
            subject=SUBJECT, name="wire bytes per order, both directions", value=both, unit="B",
            bound=48, peers=beside(wire), note=split,
        ),
        Figure(
            subject=SUBJECT, name=f"wire bytes ÷ {peers.ONE}",
            value=both / wire[peers.ONE], unit="×", bound=0.5,
            peers=beside({f"÷ {peers.BY_HAND}": both / wire[peers.BY_HAND]}),
        ),
    ]  # fmt: skip


def _per_order(machine: Machine, packed: Packed, count: int) -> tuple[float, float, float]:
    """Bytes of memory, of requests and of replies."""
    before, wire_before = machine.memory(), machine.wire_at()
    machine.send(packed)
    wire = [now - then for now, then in zip(machine.wire_at(), wire_before, strict=True)]
    return (machine.memory() - before) / count, wire[0] / count, wire[1] / count
