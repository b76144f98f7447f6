"""Moves a call's bytes: to the right server, in bounded time, again if that may help."""

from __future__ import annotations

import asyncio
from typing import Any

import redis
from redis.asyncio import ConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool

from flashsale import server_check
from flashsale.aio.sentinels import Primary
from flashsale.attempts import CLOSED, Attempts
from flashsale.calls import Call, Reply
from flashsale.connecting import (
    MAX_CONNECTIONS,
    check_settings,
    commands_of,
    connection_options,
)
from flashsale.errors import ConfigurationError, StoreUnavailable
from flashsale.topology import Address, Topology, slot_of
from flashsale.wrong_server import FirstContact

Command = tuple[Any, ...]


class _Node:
    """The connections to one server; more callers than connections wait their turn."""

    def __init__(self, pool: ConnectionPool, address: Address | None) -> None:
        self.pool = pool
        self.address = address
        self.free = asyncio.Semaphore(pool.max_connections)
        self.info: server_check.ServerInfo | None = None
        self.gone = False


class Connections:
    """The servers behind a client: one, that of a Sentinel's choice, or the nodes of a cluster."""

    def __init__(self, client: Redis | RedisCluster, durability: server_check.Durability) -> None:
        self._durability = durability
        self._closed = False
        self._nodes: dict[Address | None, _Node] = {}
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
        asking: Address | None = None
        while (patience := self._contact.patience(attempts)) > 0:
            node, redirected, asking = None, asking, None
            try:
                async with asyncio.timeout(patience):
                    node = self._node(redirected) if redirected else await self._owner(slot)
                    await self._check(node)
                    commands = commands_of(call, attempts)
                    reply: Reply
                    reply = await self._exchange(node, commands, attempts, bool(redirected))
                    attempts.answered()
                    return reply
            except Exception as error:  # every kind is judged in one place
                await self._recognise(error, node, attempts)
                pause = attempts.failed(error, call)
                asking = self._learn_from(error, node, slot)
            await asyncio.sleep(pause)
        raise attempts.over()

    async def server(self, attempts: Attempts) -> server_check.ServerInfo:
        """The server, or a node of the cluster, once checked."""
        while (patience := self._contact.patience(attempts)) > 0:
            node = None
            try:
                async with asyncio.timeout(patience):
                    node = self._node(self.topology.owner_of(None))
                    return await self._check(node)
            except Exception as error:  # every kind is judged in one place
                await self._recognise(error, node, attempts)
                pause = attempts.failed(error)
                self._learn_from(error, node, None)
            await asyncio.sleep(pause)
        raise attempts.over()

    async def close(self) -> None:
        """Close every connection, for good: whoever still waits for a reply is told so."""
        self._closed = True
        pools = [node.pool for node in self._nodes.values()]
        # Shielded, here and below: what a cancelled `disconnect` had not come to stays open.
        await asyncio.shield(asyncio.gather(*(pool.disconnect() for pool in pools)))

    # --- which server ---------------------------------------------------------------------

    def _node(self, address: Address | None) -> _Node:
        node = self._nodes.get(address)
        if node is None:
            options = self._options
            if address is not None:
                options = options | {"host": address[0], "port": address[1]}
            pool: ConnectionPool = ConnectionPool(self._kind, self._max, **options)
            node = self._nodes[address] = _Node(pool, address)
        return node

    async def _owner(self, slot: int) -> _Node:
        topology = self.topology
        if topology.is_cluster is None:
            await self._check(self._node(None))
        if topology.is_stale:
            asked = self._node(topology.who_to_ask())
            try:
                ranges = await self._exchange(asked, [("CLUSTER", "SLOTS")])
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
        return self._node(owner)

    async def _forget_gone(self) -> None:
        """Nodes come and go, with new addresses each time: those that left are not kept."""
        for address in [a for a in self._nodes if not self.topology.knows(a)]:
            node = self._nodes.pop(address, None)
            if node is not None:
                node.gone = True
                await asyncio.shield(node.pool.disconnect(inuse_connections=False))

    async def _primary_changed(self) -> None:
        """No connection to the former primary is used again."""
        pool = self._node(None).pool
        await pool.update_active_connections_for_reconnect()  # type: ignore[no-untyped-call]
        await pool.disconnect(inuse_connections=False)

    def _given(self) -> Address:
        return self._options.get("host", "localhost"), int(self._options.get("port", 6379))

    def _learn_from(self, error: Exception, node: _Node | None, slot: int | None) -> Address | None:
        """What a failed attempt tells of the servers; where to ask next time only, if anywhere."""
        if isinstance(error, redis.exceptions.MovedError):
            asked = node.address if node and node.address else self._given()
            self.topology.moved(error.slot_id, (error.host, error.port), asked)
        elif isinstance(error, redis.exceptions.AskError):
            asked = node.address if node and node.address else self._given()
            return self.topology.redirect((error.host, error.port), asked)
        elif isinstance(error, (redis.ConnectionError, OSError)) and node is not None:
            node.info = None  # another server may answer there now: it is checked again
            self.topology.not_reached(node.address)
        elif isinstance(error, (redis.exceptions.ClusterDownError, redis.exceptions.ReadOnlyError)):
            self.topology.is_stale = bool(self.topology.is_cluster)
        return None

    async def _recognise(self, error: Exception, node: _Node | None, attempts: Attempts) -> None:
        """Raise ConfigurationError if it is a wrong server that the attempt failed with."""
        self._contact.check(error, attempts)
        if self._contact.is_open(error, attempts):
            address = node.address if node else self.topology.who_to_ask()
            look = self._contact.look
            await asyncio.to_thread(look, address or self._given(), error, attempts)

    async def _check(self, node: _Node) -> server_check.ServerInfo:
        if node.info is None:
            raw = await self._exchange(node, [("INFO", *server_check.INFO_SECTIONS)])
            info = server_check.parse_info(raw)
            server_check.check_ready(info)
            found = server_check.check_server(info)
            if self._durability == "fsync":
                policy = await self._exchange(node, [("CONFIG", "GET", "appendfsync")])
                server_check.check_fsync(info, server_check.config_value(policy))
            node.info = found
            self._contact.proven = True
            if self.topology.is_cluster is None:
                self.topology.is_cluster = False
                if info.get("cluster_enabled") == "1":
                    self.topology.found_cluster()
        return node.info

    # --- one request, one reply -----------------------------------------------------------

    async def _exchange(
        self,
        node: _Node,
        commands: list[Command],
        attempts: Attempts | None = None,
        asking: bool = False,
    ) -> Any:
        """Send the first command; the second, if any, is for NOSCRIPT."""
        async with node.free:
            if self._closed:
                raise StoreUnavailable(f"{CLOSED}. It was not applied")
            connection = await node.pool.get_connection()  # type: ignore[no-untyped-call]
            try:
                if attempts is not None:
                    attempts.sending()
                return await _ask(connection, commands, asking)
            except asyncio.CancelledError:
                # The reply may still come: nobody else may be given this connection with it.
                await connection.disconnect(nowait=True)
                raise
            finally:
                if self._closed or node.gone:
                    await connection.disconnect(nowait=True)
                await node.pool.release(connection)


async def _ask(connection: Any, commands: list[Command], asking: bool) -> Any:
    for number, command in enumerate(commands):
        if asking:
            await connection.send_command("ASKING")
            await connection.read_response(timeout=None)
        try:
            await connection.send_command(*command)
            return await connection.read_response(disable_decoding=True, timeout=None)
        except redis.exceptions.NoScriptError:
            if number == len(commands) - 1:
                raise
    return None
