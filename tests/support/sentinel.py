"""A primary, its replica and their sentinels, all of them embedded servers.

with Watched.start() as servers:
    client = servers.sentinel_client().master_for(servers.name)
    servers.kill_primary()
    servers.wait_for_failover()
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from flashsale.embedded import EmbeddedServer
from flashsale.embedded.ingredients import HOST, find_binary
from support.cluster import within

if TYPE_CHECKING:
    from types import TracebackType

QUICK = {"info-period": 200, "ping-period": 200, "ask-period": 200, "publish-period": 200}
"""How often a sentinel looks; by itself it takes ten seconds to learn of a replica."""


class Watched:
    """Two servers and who watches over them; get one from `start`.

    `primary` is who is the primary now as the sentinel sees it, `servers` both of them.
    """

    name = "shop"

    def __init__(
        self,
        servers: list[EmbeddedServer],
        sentinels: list[EmbeddedServer],
        closing: ExitStack,
    ) -> None:
        """Use `start`."""
        self.servers, self.sentinels, self.sentinel = servers, sentinels, sentinels[0]
        self._closing = closing
        self._clients = {
            server: closing.enter_context(_client_of(server)) for server in (*servers, *sentinels)
        }

    @classmethod
    def start(
        cls,
        *,
        sentinels: int = 1,
        durability: Literal["memory", "fsync"] = "memory",
        down_after_ms: int = 500,
    ) -> Watched:
        """Start them and return once the replica is in sync and the first sentinel knows it."""
        with ExitStack() as closing:
            at_once = {"repl-diskless-sync-delay": "0"}
            primary, replica = (
                closing.enter_context(EmbeddedServer.start(durability=durability, config=at_once))
                for _ in range(2)
            )
            folder = Path(closing.enter_context(tempfile.TemporaryDirectory()))
            program = sentinel_in(folder)
            watching = [
                closing.enter_context(EmbeddedServer.start(binary=program))
                for _ in range(sentinels)
            ]
            watched = cls([primary, replica], watching, closing)
            watched._begin(down_after_ms)
            watched._closing = closing.pop_all()
        return watched

    def stop(self) -> None:
        """End all of them. Idempotent."""
        self._closing.close()

    def __enter__(self) -> Watched:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where the sentinels are."""
        return [(HOST, sentinel.port) for sentinel in self.sentinels]

    @property
    def primary(self) -> EmbeddedServer:
        """Who is the primary, as the sentinel sees it."""
        _, port = self.at(self.sentinel).sentinel_get_master_addr_by_name(self.name)
        return next(server for server in self.servers if server.port == int(port))

    @property
    def replica(self) -> EmbeddedServer:
        """The other one."""
        return self._other(self.primary)

    def at(self, server: EmbeddedServer) -> Any:
        """A plain client for that very server."""
        return self._clients[server]

    @contextmanager
    def no_writes(self) -> Iterator[None]:
        """Let writes wait, unanswered, once the replica has those that were answered."""
        primary, replica = self.primary, self.replica
        self.at(primary).client_pause(30_000, all=False)
        sent = self.at(primary).info("replication")["master_repl_offset"]
        within(90, lambda: self._offset(replica) >= sent, "the replica is not in sync")
        time.sleep(0.1)  # some have come since
        yield
        with contextlib.suppress(redis.ConnectionError):
            self.at(primary).client_unpause()

    def failover(self) -> EmbeddedServer:
        """Let the sentinel hand over to the replica of its own accord; returns the new primary."""
        lost = self.primary
        self.at(self.sentinel).sentinel_failover(self.name)
        return self.wait_for_failover(lost)

    def wait_for_failover(self, lost: EmbeddedServer) -> EmbeddedServer:
        """Wait until the sentinel names the other one and finds it well, and it takes writes."""
        heir = self._other(lost)
        within(90, lambda: self.primary is heir, "there was no failover")
        within(90, lambda: self._flags() == "master", "the new primary is not well")
        within(90, lambda: self.role(heir) == "master", "the new primary is none")
        return heir

    def would_promote(self) -> bool:
        """Whether the sentinel knows a replica that is in sync."""
        replicas = self.at(self.sentinel).sentinel_slaves(self.name)
        return [(r["flags"], r["master-link-status"]) for r in replicas] == [("slave", "ok")]

    def role(self, server: EmbeddedServer) -> str:
        """The server's own word: "master" or "slave"."""
        return str(self.at(server).info("replication")["role"])

    def _flags(self) -> str:
        return str(self.at(self.sentinel).sentinel_master(self.name)["flags"])

    def restart(self, lost: EmbeddedServer) -> None:
        """Run a killed server again, as the replica that a sentinel would make of it."""
        lost.restart()
        self.at(lost).replicaof(HOST, self._other(lost).port)
        within(90, self.would_promote, "it is not a replica in sync")

    def swap_roles(self) -> EmbeddedServer:
        """Hand over by hand, behind the sentinel's back; connections stay as they are."""
        before, after = self.primary, self.replica
        self.at(after).replicaof("NO", "ONE")
        self.at(before).replicaof(HOST, after.port)
        return after

    def _begin(self, down_after_ms: int) -> None:
        primary, replica = self.servers
        self.at(replica).replicaof(HOST, primary.port)
        within(90, lambda: self._link(replica) == "up", "the replica is not in sync")
        for sentinel in map(self.at, self.sentinels):
            sentinel.execute_command("SENTINEL", "DEBUG", *(x for i in QUICK.items() for x in i))
            sentinel.sentinel_monitor(self.name, HOST, primary.port, 1)
            sentinel.sentinel_set(self.name, "down-after-milliseconds", down_after_ms)
            sentinel.sentinel_set(self.name, "failover-timeout", 1_500)
        within(90, self.would_promote, "the sentinel sees no replica")

    def _other(self, server: EmbeddedServer) -> EmbeddedServer:
        return self.servers[1 - self.servers.index(server)]

    def _link(self, server: EmbeddedServer) -> str:
        return str(self.at(server).info("replication")["master_link_status"])

    def _offset(self, replica: EmbeddedServer) -> int:
        return int(self.at(replica).info("replication")["slave_repl_offset"])


def sentinel_in(folder: Path) -> Path:
    """The server's program under the name by which it is a sentinel."""
    binary = find_binary(None)
    name = "redis-sentinel" if "redis" in os.path.basename(binary) else "valkey-sentinel"
    link = folder / name
    link.symlink_to(binary)
    return link


def _client_of(server: EmbeddedServer) -> redis.Redis:
    return redis.Redis(
        host=HOST,
        port=server.port,
        protocol=2,
        decode_responses=True,
        socket_timeout=10,
        retry=Retry(NoBackoff(), 2),  # a sentinel cuts connections when it changes a role
    )
