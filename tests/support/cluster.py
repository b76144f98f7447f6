"""A real cluster of embedded servers, and everything that happens to clusters.

    with Cluster.start(replicas=1) as cluster:
        cluster.move_slot(slot_of("{a}"), cluster.nodes[2])
        lost = cluster.owner_of("{a}")
        with cluster.killed(lost):
            cluster.wait_for_failover(lost)

Primaries are `nodes[0]` to `nodes[2]`, the replica of `nodes[n]` is `nodes[n + 3]`; a node
keeps its place when roles change. Nothing is left behind, however a test ends: every node is
an `EmbeddedServer`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.crc import key_slot
from redis.retry import Retry

from flashsale.embedded import EmbeddedServer

if TYPE_CHECKING:
    from types import TracebackType

PRIMARIES = 3
SLOTS = 16_384
HOST = "127.0.0.1"


class Cluster:
    """Three primaries, perhaps with a replica each; get one from `start`.

    A slot without a server does not stop the others (`cluster-require-full-coverage no`),
    and no replica changes its primary by itself.
    """

    def __init__(self, nodes: list[EmbeddedServer], closing: ExitStack) -> None:
        """Use `start`."""
        self.nodes = nodes
        self._closing = closing
        self._silent: set[EmbeddedServer] = set()
        self._clients = {node: closing.enter_context(_client_of(node)) for node in nodes}
        self._ids = {node: self.ask(node, "CLUSTER", "MYID").decode() for node in nodes}

    @classmethod
    def start(
        cls,
        *,
        replicas: Literal[0, 1] = 0,
        durability: Literal["memory", "fsync"] = "memory",
        node_timeout_ms: int = 1_000,
        config: Mapping[str, str] | None = None,
    ) -> Cluster:
        """Start and form a cluster, and return once every node calls it ok."""
        settings = {
            "cluster-enabled": "yes",
            "cluster-node-timeout": str(node_timeout_ms),
            "cluster-require-full-coverage": "no",
            "cluster-allow-replica-migration": "no",
            "cluster-migration-barrier": "99",
            "repl-diskless-sync-delay": "0",
            **(config or {}),
        }
        with ExitStack() as closing:

            def start_one(_: int) -> EmbeddedServer:
                server = EmbeddedServer.start(durability=durability, config=settings)
                return closing.enter_context(server)

            count = PRIMARIES * (1 + replicas)
            with ThreadPoolExecutor(count) as pool:
                nodes = list(pool.map(start_one, range(count)))
            cluster = cls(nodes, closing)
            cluster._form()
            cluster._closing = closing.pop_all()
        return cluster

    def stop(self) -> None:
        """End every node. Idempotent."""
        self._closing.close()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    # --- looking ----------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The first node's URL."""
        return self.nodes[0].url

    def ask(self, node: EmbeddedServer, *command: Any) -> Any:
        """Run a command on that very node; the reply is as the server sent it."""
        client = self._clients[node]
        connection = client.connection_pool.get_connection()
        try:
            connection.send_command(*command)
            return connection.read_response(disable_decoding=True)
        finally:
            client.connection_pool.release(connection)

    def info(self, node: EmbeddedServer, section: str) -> dict[str, str]:
        """A section of the node's INFO (or of CLUSTER INFO, called "cluster info")."""
        command = section.upper().split() if " " in section else ["INFO", section]
        lines = self.ask(node, *command).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def owner_of(self, key: str) -> EmbeddedServer:
        """The primary that owns the key's slot, if the nodes that answer agree on it."""
        return self.owner_of_slot(slot_of(key))

    def owner_of_slot(self, slot: int) -> EmbeddedServer:
        owners = {view[slot] for view in self._views().values()}
        assert len(owners) == 1, f"slot {slot} has the owners {owners}"
        (owner,) = owners
        return next(node for node, name in self._ids.items() if name == owner)

    def replica_of(self, primary: EmbeddedServer) -> EmbeddedServer:
        """Its partner, whichever of the two is the primary now."""
        place = self.nodes.index(primary)
        return self.nodes[(place + PRIMARIES) % len(self.nodes)]

    def key_for(self, node: EmbeddedServer, pattern: str = "{}") -> str:
        """The first of "pattern" with 0, 1, 2 … in it whose slot that node owns."""
        view = self._view(node)
        names = (pattern.format(number) for number in range(100_000))
        return next(key for key in names if view[slot_of(key)] == self._ids[node])

    # --- changing ---------------------------------------------------------------------

    def move(self, slot: int, to: EmbeddedServer) -> Move:
        """Begin to move a slot and stop there: the keys and the end are up to the caller."""
        return Move(self, slot, self.owner_of_slot(slot), to)

    def move_slot(self, slot: int, to: EmbeddedServer) -> None:
        """Move a slot with all its keys while clients go on."""
        move = self.move(slot, to)
        move.keys()
        move.finish()

    def migrate_at_once(self, slot: int, to: EmbeddedServer) -> None:
        """Move a slot as Valkey 9 does by itself: copied behind the scenes, handed over at once."""
        source = self.owner_of_slot(slot)
        command = ("MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", self.id_of(to))
        assert self.ask(source, "CLUSTER", *command) == b"OK"
        within(90, lambda: self._settled({slot: to}), f"slot {slot} was not migrated")

    def set(self, node: EmbeddedServer, name: str, value: str | int) -> None:
        """Change a setting of one node."""
        assert self.ask(node, "CONFIG", "SET", name, value) == b"OK"

    def flush_scripts(self, node: EmbeddedServer) -> None:
        """Let one node forget every script."""
        assert self.ask(node, "SCRIPT", "FLUSH", "SYNC") == b"OK"

    @contextmanager
    def no_writes(self, primary: EmbeddedServer) -> Iterator[None]:
        """Let writes wait, unanswered, once the replica has those that were answered."""
        replica = self.replica_of(primary)
        self.ask(primary, "CLIENT", "PAUSE", 30_000, "WRITE")
        sent = int(self.info(primary, "replication")["master_repl_offset"])
        within(90, lambda: self._offset(replica) >= sent, "the replica is not in sync")
        time.sleep(0.1)  # some have come since
        yield
        with contextlib.suppress(redis.ConnectionError):
            self.ask(primary, "CLIENT", "UNPAUSE")

    def _offset(self, replica: EmbeddedServer) -> int:
        return int(self.info(replica, "replication")["slave_repl_offset"])

    @contextmanager
    def killed(
        self, node: EmbeddedServer, *, in_sync: bool = False
    ) -> Iterator[Callable[[], None]]:
        """Kill a node (SIGKILL); at the end, or when what is given is called, it runs again.

        That takes until the cluster has taken the node in. in_sync: its replica has all that it
        has acknowledged, though calls are under way.
        """

        def restart() -> None:
            if node in self._silent:
                node.restart()
                self._silent.discard(node)
            self.wait_until_ok()

        self._silent.add(node)
        with self.no_writes(node) if in_sync else nullcontext():
            node.kill()
        try:
            yield restart
        finally:
            restart()

    @contextmanager
    def frozen(self, node: EmbeddedServer) -> Iterator[Callable[[], None]]:
        """Stop a node (SIGSTOP) until the end, or until what is given is called."""

        def thaw() -> None:
            os.kill(node.pid, signal.SIGCONT)
            self._silent.discard(node)

        self._silent.add(node)
        os.kill(node.pid, signal.SIGSTOP)
        try:
            yield thaw
        finally:
            thaw()

    def promote(self, replica: EmbeddedServer) -> None:
        """Hand over in order, with the primary's help (CLUSTER FAILOVER)."""
        self.ask(replica, "CLUSTER", "FAILOVER")
        self.wait_for_failover(self.replica_of(replica))

    def wait_for_failover(self, lost: EmbeddedServer) -> EmbeddedServer:
        """Wait until all that live know the replica as the owner of what was `lost`'s."""
        heir = self.replica_of(lost)
        within(90, lambda: self._owns_and_serves(heir, lost), "there was no failover")
        return heir

    def wait_until_ok(self) -> None:
        """Wait until every node answers, knows every other, and serves."""
        within(90, self._is_ok, "the cluster is not ok")

    # --- forming ----------------------------------------------------------------------

    def _form(self) -> None:
        for number, node in enumerate(self.nodes):
            self.ask(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        bounds = [SLOTS * number // PRIMARIES for number in range(PRIMARIES + 1)]
        for node, (first, end) in zip(self.nodes, pairwise(bounds), strict=False):
            self.ask(node, "CLUSTER", "ADDSLOTSRANGE", first, end - 1)
        for node in self.nodes:
            for other in self.nodes:
                if other is not node:
                    self.ask(node, "CLUSTER", "MEET", HOST, other.port)
        within(90, self._all_met, "the nodes did not meet")
        for node in self.nodes[PRIMARIES:]:
            self.ask(node, "CLUSTER", "REPLICATE", self.id_of(self.replica_of(node)))
        self.wait_until_ok()

    def id_of(self, node: EmbeddedServer) -> str:
        """What the cluster calls it."""
        return self._ids[node]

    def _all_met(self) -> bool:
        for node in self.nodes:
            lines = self.ask(node, "CLUSTER", "NODES").decode().splitlines()
            words = [line.split() for line in lines]
            known = {word[0] for word in words if word[7] == "connected"}
            flags = {flag for word in words for flag in word[2].split(",")}
            if known != set(self._ids.values()) or "handshake" in flags:
                return False
        return True

    def _is_ok(self) -> bool:
        try:
            states = {self.info(node, "cluster info")["cluster_state"] for node in self.nodes}
            if states != {"ok"} or not self._all_met() or not self._views_agree():
                return False
            linked = [self.info(node, "replication") for node in self.nodes]
        except redis.ConnectionError:
            return False
        return all(
            info["role"] == "master" or info["master_link_status"] == "up" for info in linked
        )

    def _views_agree(self) -> bool:
        views = list(self._views().values())
        return all(view == views[0] for view in views) and len(views[0]) == SLOTS

    def _settled(self, owners: Mapping[int, EmbeddedServer]) -> bool:
        views = self._views().values()
        return all(
            view.get(slot) == self.id_of(node) for view in views for slot, node in owners.items()
        )

    def _owns_and_serves(self, heir: EmbeddedServer, lost: EmbeddedServer) -> bool:
        names = {self.id_of(heir), self.id_of(lost)}
        owners = [name for view in self._views().values() for name in view.values()]
        owning = {name for name in owners if name in names}
        state = self.info(heir, "cluster info")["cluster_state"]
        return owning == {self.id_of(heir)} and state == "ok"

    def _views(self) -> dict[EmbeddedServer, dict[int, str]]:
        """Who owns which slot, as each node that answers sees it."""
        views = {}
        for node in (node for node in self.nodes if node not in self._silent):
            with contextlib.suppress(redis.ConnectionError):
                views[node] = self._view(node)
        return views

    def _view(self, node: EmbeddedServer) -> dict[int, str]:
        view = {}
        for line in self.ask(node, "CLUSTER", "NODES").decode().splitlines():
            name, *_ = words = line.split()
            for part in words[8:]:
                if not part.startswith("["):
                    first, _, last = part.partition("-")
                    view.update(dict.fromkeys(range(int(first), int(last or first) + 1), name))
        return view


class Move:
    """A slot on its way from one node to another."""

    def __init__(
        self, cluster: Cluster, slot: int, source: EmbeddedServer, target: EmbeddedServer
    ) -> None:
        """Use `Cluster.move`."""
        self._cluster, self.slot, self.source, self.target = cluster, slot, source, target
        ids = cluster.id_of(source), cluster.id_of(target)
        cluster.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
        cluster.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])

    def keys(self, *keys: str) -> None:
        """Move these keys, or all there are."""
        ask = self._cluster.ask
        while batch := keys or ask(self.source, "CLUSTER", "GETKEYSINSLOT", self.slot, 100):
            address = (HOST, self.target.port, "", 0, 5_000)
            ask(self.source, "MIGRATE", *address, "KEYS", *batch)
            if keys:
                return

    def finish(self) -> None:
        """Tell every node, the new owner first, and wait until they agree."""
        cluster, name = self._cluster, self._cluster.id_of(self.target)
        for node in (self.target, self.source):
            cluster.ask(node, "CLUSTER", "SETSLOT", self.slot, "NODE", name)
        within(90, lambda: cluster._settled({self.slot: self.target}), "the move is not known")


def slot_of(key: str) -> int:
    """The slot of a key."""
    return int(key_slot(key.encode()))


def client_for(url: str) -> Any:
    """A plain client for whatever is there: a server, or the cluster that it is a node of."""
    with redis.Redis.from_url(url) as client:
        clustered = client.info("cluster")["cluster_enabled"]
    return RedisCluster.from_url(url) if clustered else redis.Redis.from_url(url)


def server_of(client: Any, key: str) -> Any:
    """The server that decides a key: the client's only one, or the node of its cluster."""
    if isinstance(client, RedisCluster):
        return client.get_redis_connection(client.get_node_from_key(key))
    return client


def within(seconds: float, happens: Callable[[], bool], complaint: str) -> None:
    """Wait for something, but not longer."""
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end, f"{complaint} within {seconds} s"
        time.sleep(0.02)


def _client_of(node: EmbeddedServer) -> redis.Redis:
    return redis.Redis(
        host=HOST, port=node.port, protocol=2, socket_timeout=10, retry=Retry(NoBackoff(), 0)
    )
