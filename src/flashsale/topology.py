"""Which server decides a shard: the one there is, or the node of a cluster that owns its slot.

A value without I/O; the shells' connections ask it where to go and tell it what they learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from redis.crc import key_slot

from flashsale.keys import ShardKeys

Address: TypeAlias = tuple[str, int]

SLOTS = 16_384


def slot_of(key: str) -> int:
    """The cluster slot of a key, from its hash tag."""
    return int(key_slot(key.encode(), SLOTS))


class Topology:
    """What a client knows of its servers.

    Outside a cluster every slot belongs to `None`, the server the client was given. In a cluster
    the map is learnt from any node, corrected by every MOVED, and learnt anew after a connection
    failed: `is_stale`. Whoever is to be asked for it next is the one that answered last; what
    the client was given comes last, for the day on which every node has another address.
    """

    def __init__(
        self, seeds: Iterable[Address] = (), remap: Callable[[Address], Address] | None = None
    ) -> None:
        self.is_cluster: bool | None = None
        self.is_stale = False
        addresses = list(seeds)
        self._given: list[Address | None] = [*addresses] or [None]
        self._seeds = self._given
        self._remap = remap or (lambda address: address)
        self._owners: dict[int, Address] = {}
        if addresses:
            self.found_cluster()

    def found_cluster(self) -> None:
        """The server is a node of a cluster: its map is wanted."""
        self.is_cluster = self.is_stale = True

    def owner_of(self, slot: int | None) -> Address | None:
        """Where to send what concerns a slot; None is the server the client was given."""
        if slot is None or not self.is_cluster:
            return self._seeds[0]
        return self._owners.get(slot)

    def server_of(self, sale: str) -> Address | None:
        """Which node of a cluster decides a sale; None: not known yet, or the only server."""
        if not self.is_cluster:
            return None
        return self._owners.get(slot_of(ShardKeys.of(sale).sale))

    def knows(self, address: Address | None) -> bool:
        """Whether it is one of the given servers or of those of the map."""
        return address is None or address in self._seeds

    def who_to_ask(self) -> Address | None:
        """A node to learn the map from: another one after each `not_reached`."""
        return self._seeds[0]

    def not_reached(self, address: Address | None) -> None:
        """A connection failed: the map may be out of date, and another node is to be asked."""
        self.is_stale = bool(self.is_cluster)
        seeds = self._seeds  # never changed in place: other threads read it
        if address in seeds:
            self._seeds = [*(seed for seed in seeds if seed != address), address]

    def moved(self, slot: int, address: Address, asked: Address | None) -> None:
        """A node said that another owns this slot; an empty host means its own."""
        self._owners[slot] = self._full(address, asked)

    def redirect(self, address: Address, asked: Address | None) -> Address:
        """Where an ASK points to."""
        return self._full(address, asked)

    def learn(self, ranges: Sequence[Sequence[object]], asked: Address | None) -> None:
        """Take the reply of CLUSTER SLOTS: start, end, the primary's [host, port, …], replicas."""
        owners: dict[int, Address] = {}
        known: dict[Address | None, None] = {}
        for first, last, *nodes in ranges:
            for number, node in enumerate(nodes):
                host, port = node[0], node[1]  # type: ignore[index]
                text = host.decode() if isinstance(host, bytes) else str(host or "")
                address = self._full((text, int(port)), asked)
                known[address] = None
                if number == 0:
                    owners.update(dict.fromkeys(range(first, last + 1), address))  # type: ignore[call-overload,operator]
        if owners:
            self._owners = owners
            first = [asked] if asked in known else []
            self._seeds = list(dict.fromkeys([*first, *known, *self._given]))
            self.is_stale = False

    def _full(self, address: Address, asked: Address | None) -> Address:
        host, port = address
        if host in ("", "?") and asked is not None:
            host = asked[0]
        return self._remap((host, port))
