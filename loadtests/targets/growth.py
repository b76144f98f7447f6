"""What a decision costs more in a large sale, or among many, beyond what any insert costs more.

The larger the data, the more often they are not in the processor's cache; a bare HSET of the same
fields and values into hashes of the same sizes pays for that, too, and stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from flashsale.keys import ShardKeys
from loadtests.targets.bench import BATCH, Bench, Command, Machine, expect_codes, sale_value
from loadtests.targets.figures import Figure
from loadtests.targets.figures import peers as beside
from loadtests.targets.traffic import (
    Order,
    for_sale,
    hold_calls,
    holds,
    open_call,
    orders,
)

SUBJECT = "growth"
_SMALL_SALES = 64
"""Sales of the small size that are measured together: one alone is too short for the clock."""
_PART = 100 * BATCH
_ROUNDS = 2
_FEW_SALES = 16
_FIRST = 16
"""Orders that each of few or many sales has before it is measured."""


def measure(bench: Bench) -> list[Figure]:
    """From few attempts to many, and from one sale to many."""
    bench.say("growth with the attempts of a sale")
    attempts = bench.rounds(lambda: _attempts(bench), count=_ROUNDS)
    bench.say("growth with the number of sales")
    sales = bench.rounds(lambda: _sales(bench), count=_ROUNDS)
    small, large = bench.sizes.attempts
    bench.machine().empty()
    return [
        _line(f"{small:,} to {large:,} attempts", attempts),
        _line(f"{_FEW_SALES} to {bench.sizes.sales:,} sales", sales),
    ]


def _line(name: str, found: dict[str, float]) -> Figure:
    """By how many per cent a decision grows more than an insert does."""
    ours = 100 * (found["large"] / found["small"] - 1)
    insert = 100 * (found["large HSET"] / found["small HSET"] - 1)
    return Figure(
        subject=SUBJECT, name=f"growth from {name}, less a bare HSET's", value=ours - insert,
        unit="%", bound=10, peers=beside({"a hold's own": ours, "a bare HSET's": insert}),
        note=f"hold {found['small']:.2f} → {found['large']:.2f} µs, "
        f"HSET {found['small HSET']:.2f} → {found['large HSET']:.2f} µs",
    )  # fmt: skip


# --- attempts -----------------------------------------------------------------------------


def _attempts(bench: Bench) -> dict[str, float]:
    """µs an order over the second half of a small sale's attempts, and of a large one's."""
    machine = bench.machine()
    small, large = bench.sizes.attempts
    found = {}
    machine.empty()
    found["small"] = _small(machine, small)
    machine.empty()
    found["small HSET"] = _small_hset(machine, small)
    machine.empty()
    sale = machine.open()
    found["large"] = _second_half(machine, large, lambda n, at: holds(sale, orders(n, at)))
    value = _value(machine, sale)
    machine.empty()
    found["large HSET"] = _second_half(
        machine, large, lambda n, at: _hsets("h", orders(n, at), value)
    )
    return found


def _second_half(machine: Machine, total: int, build: Callable[[int, int], list[Command]]) -> float:
    spent, counted = 0.0, 0
    for at in range(0, total, _PART):
        count = min(_PART, total - at)
        taken, _ = machine.send(machine.pack(build(count, at)))
        if at + count > total // 2:
            spent, counted = spent + taken, counted + count
    return spent / counted


def _small(machine: Machine, size: int) -> float:
    sales = [machine.open() for _ in range(_SMALL_SALES)]
    calls = hold_calls(orders(size))
    half = len(calls) // 2
    machine.send(machine.pack([for_sale(call, sale) for sale in sales for call in calls[:half]]))
    rest = [for_sale(call, sale) for sale in sales for call in calls[half:]]
    spent, replies = machine.send(machine.pack(rest))
    expect_codes(replies, b"H")
    return spent / len(rest) / BATCH


def _small_hset(machine: Machine, size: int) -> float:
    who, value, half = orders(size), _sample(machine), size // 2
    keys = [f"h{number}" for number in range(_SMALL_SALES)]
    machine.send(
        machine.pack([command for key in keys for command in _hsets(key, who[:half], value)])
    )
    rest = [command for key in keys for command in _hsets(key, who[half:], value)]
    spent, _ = machine.send(machine.pack(rest))
    return spent / len(rest) / BATCH


# --- sales --------------------------------------------------------------------------------


def _sales(bench: Bench) -> dict[str, float]:
    """µs an order in batches that each go to another sale, of few and of many, equally full."""
    machine = bench.machine()
    found = {}
    for size, count in (("small", _FEW_SALES), ("large", bench.sizes.sales)):
        machine.empty()
        names = _open_many(machine, count)
        machine.send(machine.pack(_to_each(names, orders(_FIRST))))
        packed = machine.pack(_to_each(names, orders(BATCH, _FIRST)))
        spent, replies = machine.send(packed)
        expect_codes(replies, b"H")
        found[size] = spent / count / BATCH
        value = _value(machine, names[0])
        machine.empty()
        machine.send(machine.pack(_hset_each(names, orders(_FIRST), value)))
        packed = machine.pack(_hset_each(names, orders(BATCH, _FIRST), value))
        found[f"{size} HSET"] = machine.send(packed)[0] / count / BATCH
    return found


def _open_many(machine: Machine, count: int) -> list[str]:
    sales = [sale_value(machine.new_id()) for _ in range(count)]
    machine.send(machine.pack(open_call(sale) for sale in sales))
    return [sale.id for sale in sales]


def _to_each(names: Sequence[str], who: Sequence[Order]) -> Iterator[Command]:
    """One batch, the same for every sale."""
    (call,) = hold_calls(who)
    return (for_sale(call, name) for name in names)


def _hset_each(names: Sequence[str], who: Sequence[Order], value: bytes) -> Iterator[Command]:
    """The same fields and values into a hash for each name."""
    (command,) = _hsets("", who, value)
    return ((command[0], name, *command[2:]) for name in names)


# --- the floor ----------------------------------------------------------------------------


def _hsets(key: str, who: Sequence[Order], value: bytes) -> list[Command]:
    """Buyers as fields, 256 a command."""
    return [
        ("HSET", key, *(part for buyer, _ in who[at : at + BATCH] for part in (buyer, value)))
        for at in range(0, len(who), BATCH)
    ]


def _value(machine: Machine, sale: str) -> bytes:
    """What a buyer's record looks like on the server: the peer's values are of its size."""
    client: Any = machine.client
    _, fields = client.hscan(ShardKeys.of(sale).buyers, count=1)
    return bytes(next(iter(fields.values())))


def _sample(machine: Machine) -> bytes:
    sale = machine.open()
    machine.send(machine.pack(holds(sale, orders(1))))
    return _value(machine, sale)
