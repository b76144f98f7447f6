"""Moves a call's bytes: to the right server, in bounded time, again if that may help."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import redis
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool

from flashsale import server_check
from flashsale.aio.lines import Attempt, Node, exchange
from flashsale.aio.sentinels import Primary
from flashsale.attempts import CLOSED, Attempts
from flashsale.calls import Call, FromReplica, Reply
from flashsale.connecting import (
    MAX_CONNECTIONS,
    UNCHECKED,
    check_settings,
    commands_of,
    connection_options,
)
from flashsale.errors import ConfigurationError, Overloaded, StoreUnavailable
from flashsale.faults import ANOTHER_SERVER, JUDGED, NoneFree
from flashsale.pools import CROWDED
from flashsale.topology import Address, Topology, slot_of
from flashsale.wrong_server import FirstContact

_TURNS = 4
"""Turns of the loop until a connection is closed that was cut: over TLS it takes the most."""


class Connections:
    """The servers behind a client: one, that of a Sentinel's choice, or the nodes of a cluster."""

    def __init__(self, client: Redis | RedisCluster, durability: server_check.Durability) -> None:
        self._durability = durability
        self._closed = False
        self._nodes: dict[Address | None, Node] = {}
        if isinstance(client, RedisCluster):
            manager = client.nodes_manager
            remap = manager.remap_host_port
            seeds = [(node.host, int(node.port)) for node in manager.startup_nodes.values()]
            self.topology = Topology(seeds, lambda address: remap(*address))
            kwargs = client.connection_kwargs
            self._kind: Any = kwargs["connection_class"]
            self._max = min(kwargs["max_connections"], MAX_CONNECTIONS)
        elif isinstance(client, Redis):
            pool = client.connection_pool
            self.topology = Topology()
            kwargs, self._kind, self._max = (
                pool.connection_kwargs,
                pool.connection_class,
                pool.max_connections,
            )
        else:
            kind = f"{type(client).__module__}.{type(client).__name__}"
            rule = "must be a redis.asyncio.Redis or redis.asyncio.RedisCluster"
            raise ConfigurationError(f"client: {rule}, not {kind}")
        # Every attempt is bounded by asyncio.timeout. With a time-out of its own redis-py sends
        # through asyncio.wait_for, which on Python 3.11 may swallow a cancellation.
        self._options = connection_options(kwargs, Retry) | {"socket_timeout": None}
        given = getattr(client, "connection_pool", None)
        if isinstance(given, SentinelConnectionPool):
            self._options["connection_pool"] = Primary(given, self._primary_changed)
        check_settings(self._kind, self._options)
        self._contact = FirstContact(self._kind, self._options)

    async def send(self, call: Call, attempts: Attempts) -> Reply:
        """The reply to a call, from whichever server decides its shard."""
        slot = slot_of(call.keys[0])
        self.check_room(call, attempts)
        asking: Address | None = None
        while (patience := self._contact.patience(attempts)) > 0:
            node, redirected, asking = None, asking, None
            try:
                async with asyncio.timeout(patience) as timeout:
                    attempt = Attempt(attempts, timeout)
                    node = self._node(redirected or await self._owner(slot, attempt))
                    server = await self._check(node, attempt)
                    reply: Reply
                    reply = await self._exchange(node, call, attempt, bool(redirected))
                    attempts.answered()
                    return FromReplica(reply) if server.replica else reply
            except JUDGED as error:
                await self._recognise(error, node, attempts)
                pause = attempts.failed(error, call)
                asking = await self._learn_from(error, node, slot)
            await asyncio.sleep(pause)
        raise attempts.over()

    def check_room(self, call: Call, attempts: Attempts) -> None:
        """Before any effort is made: a crowd is refused at once only if refusing is cheap."""
        if attempts.alone and not attempts.returns:
            node = self._nodes.get(self.topology.owner_of(slot_of(call.keys[0])))
            if node is not None and not node.pool.has_room(attempts.deadline):
                raise Overloaded(CROWDED)

    async def server(self, attempts: Attempts) -> server_check.ServerInfo:
        """The server, or a node of the cluster, once checked."""
        while (patience := self._contact.patience(attempts)) > 0:
            node = None
            try:
                async with asyncio.timeout(patience) as timeout:
                    node = self._node(self.topology.owner_of(None))
                    return await self._check(node, Attempt(attempts, timeout))
            except JUDGED as error:
                await self._recognise(error, node, attempts)
                pause = attempts.failed(error)
                await self._learn_from(error, node, None)
            await asyncio.sleep(pause)
        raise attempts.over()

    async def close(self) -> None:
        """Close every connection, for good: whoever still waits for a reply is told so."""
        self._closed = True
        for node in list(self._nodes.values()):
            await node.close()
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    # --- which server ---------------------------------------------------------------------

    def _node(self, address: Address | None) -> Node:
        node = self._nodes.get(address)
        if node is None:
            options = self._options
            if address is not None:
                options = options | {"host": address[0], "port": address[1]}
            node = self._nodes[address] = Node(address, self._max, self._kind, options)
        return node

    async def _owner(self, slot: int, attempt: Attempt) -> Address | None:
        topology = self.topology
        if topology.is_cluster is None:
            await self._check(self._node(None), attempt)
        if topology.is_stale:
            asked = self._node(topology.who_to_ask())
            try:
                ranges = await self._ask(asked, attempt, "CLUSTER", "SLOTS")
            except (redis.ConnectionError, OSError, asyncio.CancelledError):
                # Cancelled: by the attempt's time-out. A frozen node is not to be asked again.
                topology.not_reached(asked.address)
                raise
            topology.learn(ranges, asked.address or self._given())
            await self._forget_gone()
        owner = topology.owner_of(slot)
        if owner is None and topology.is_cluster:
            topology.is_stale = True
            raise redis.exceptions.ClusterDownError(f"slot {slot} is served by no node")
        return owner

    async def _forget_gone(self) -> None:
        """Nodes come and go, with new addresses each time: those that left are not kept."""
        for address in [a for a in self._nodes if not self.topology.knows(a)]:
            node = self._nodes.pop(address, None)
            if node is not None:
                await node.retire()

    async def _primary_changed(self) -> None:
        """No connection to the former primary is used again."""
        await self._node(None).forget()

    def _given(self) -> Address:
        return self._options.get("host", "localhost"), int(self._options.get("port", 6379))

    async def _learn_from(
        self, error: Exception, node: Node | None, slot: int | None
    ) -> Address | None:
        """What a failed attempt tells of the servers; where to ask next time only, if anywhere."""
        if isinstance(error, redis.exceptions.MovedError):
            asked = node.address if node and node.address else self._given()
            self.topology.moved(error.slot_id, (error.host, error.port), asked)
        elif isinstance(error, redis.exceptions.AskError):
            asked = node.address if node and node.address else self._given()
            return self.topology.redirect((error.host, error.port), asked)
        elif isinstance(error, ANOTHER_SERVER):
            if node is not None:
                await node.forget()
            self.topology.is_stale = bool(self.topology.is_cluster)
        elif isinstance(error, NoneFree):
            return None
        elif isinstance(error, (redis.ConnectionError, redis.TimeoutError, OSError)) and node:
            node.info = None  # another server may answer there now: it is checked again
            self.topology.not_reached(node.address)
        return None

    async def _recognise(self, error: Exception, node: Node | None, attempts: Attempts) -> None:
        """Raise ConfigurationError if it is a wrong server that the attempt failed with."""
        self._contact.check(error, attempts)
        if self._contact.is_open(error, attempts):
            address = node.address if node else self.topology.who_to_ask()
            look = asyncio.to_thread(self._contact.look, address or self._given(), error, attempts)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._contact.look_s(attempts)):
                    await look

    async def _check(self, node: Node, attempt: Attempt) -> server_check.ServerInfo:
        """What a server is, asked by the first call and by one call every LOOK_AGAIN_S.

        After twice that without an answer, by every call until there is one.
        """
        known = node.info
        if known is not None and not server_check.is_due(node.looked_at, node.known_at):
            return known
        node.looked_at = time.monotonic()  # the others go on with what is known, if it is young
        try:
            return await self._look_at(node, attempt)
        except BaseException:
            node.info = None  # nobody relies on what is not known to be so
            raise

    async def _look_at(self, node: Node, attempt: Attempt) -> server_check.ServerInfo:
        begun = time.monotonic()
        raw = await self._ask(node, attempt, "INFO", *server_check.INFO_SECTIONS)
        info = server_check.parse_info(raw)
        server_check.check_ready(info)
        found = server_check.check_server(info)
        if self._durability == "fsync":
            policy = await self._ask(node, attempt, "CONFIG", "GET", "appendfsync")
            server_check.check_fsync(info, server_check.config_value(policy))
        node.info, node.known_at = found, begun
        self._contact.proven = True
        if self.topology.is_cluster is None:
            self.topology.is_cluster = False
            if info.get("cluster_enabled") == "1":
                self.topology.found_cluster()
        return found

    # --- one request, one reply -----------------------------------------------------------

    async def _exchange(self, node: Node, call: Call, attempt: Attempt, asking: bool) -> Any:
        """Send a call, and read its reply."""
        lease = attempt.lease()
        try:
            self._check_open()
            await node.lend(lease, attempt)
            self._check_open()
            if node.info is None and not attempt.attempts.returns:
                raise redis.ConnectionError(UNCHECKED)
            commands = commands_of(call, attempt.attempts)
            attempt.attempts.sending()
            return await exchange(lease, commands, asking)
        finally:
            await node.give_back(lease)

    async def _ask(self, node: Node, attempt: Attempt, *command: str) -> Any:
        """A question about the server itself, on the way of a call."""
        lease = attempt.lease()
        try:
            self._check_open()
            await node.lend(lease, attempt)
            self._check_open()
            return await exchange(lease, [command])
        finally:
            await node.give_back(lease)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"{CLOSED}. It was not applied")
