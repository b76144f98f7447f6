"""Moves a call's bytes: to the right server, in bounded time, again if that may help."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import redis
from msgspec import Struct
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

from flashsale import server_check
from flashsale.attempts import CLOSED, Attempts
from flashsale.calls import Call, FromReplica, Reply
from flashsale.connecting import (
    MAX_CONNECTIONS,
    UNCHECKED,
    check_settings,
    commands_of,
    connection_options,
)
from flashsale.errors import ConfigurationError, StoreUnavailable
from flashsale.faults import ANOTHER_SERVER, JUDGED, NoneFree
from flashsale.sync.bounded import attempt, bounded
from flashsale.sync.lines import Node, SyncLease, exchange, receive, send
from flashsale.sync.sentinels import Primary
from flashsale.topology import Address, Topology, slot_of
from flashsale.wrong_server import FirstContact


class Ticket(Struct, eq=False):
    """A call, perhaps on its way: its lease runs from `begin` until its reply is read."""

    call: Call
    attempts: Attempts
    node: Node | None = None
    lease: SyncLease | None = None
    end: float = 0.0
    reply: Reply | None = None
    error: Exception | None = None


class Connections:
    """The servers behind a client: one, that of a Sentinel's choice, or the nodes of a cluster."""

    def __init__(
        self, client: redis.Redis | redis.RedisCluster, durability: server_check.Durability
    ) -> None:
        self._durability = durability
        self._nodes: dict[Address | None, Node] = {}
        self._closed = False
        if isinstance(client, redis.RedisCluster):
            manager = client.nodes_manager
            remap = manager.remap_host_port
            nodes = list(manager.nodes_cache.values())
            seeds = [(node.host, int(node.port)) for node in nodes]
            self.topology = Topology(seeds, lambda address: remap(*address))
            pool = client.get_redis_connection(nodes[0]).connection_pool
            most = min(pool.max_connections, MAX_CONNECTIONS)
        elif isinstance(client, redis.Redis):
            self.topology = Topology()
            pool = client.connection_pool
            most = pool.max_connections
        else:
            kind = f"{type(client).__module__}.{type(client).__name__}"
            rule = "must be a redis.Redis or redis.RedisCluster"
            raise ConfigurationError(f"client: {rule}, not {kind}")
        self._kind, self._max = bounded(pool.connection_class), most
        self._options = connection_options(pool.connection_kwargs, Retry)
        if isinstance(pool, SentinelConnectionPool):
            self._options["connection_pool"] = Primary(pool, bounded, self._primary_changed)
        check_settings(self._kind, self._options)
        self._contact = FirstContact(self._kind, self._options)

    def begin(self, ticket: Ticket) -> None:
        """Send a call and do not wait for its reply, if that waits for nobody; see `finish`.

        Whoever is interrupted here or in `finish` abandons the ticket.
        """
        call, attempts = ticket.call, ticket.attempts
        node, patience = self._known_owner(slot_of(call.keys[0])), attempts.patience()
        if node is None or patience <= 0:
            return  # it is sent when it is asked for
        attempt.begin(patience)
        lease = SyncLease(attempts.deadline)
        ticket.node, ticket.end, ticket.lease = node, attempt.end, lease
        try:
            self._check_open()
            if node.lend_now(lease) and node.info is not None:
                attempts.sending()
                send(lease, commands_of(call, attempts)[0])
                return
        except JUDGED as error:  # judged by `finish`
            ticket.error = error
        self._let_go(ticket)

    def finish(self, ticket: Ticket, others: Sequence[Ticket]) -> Reply:
        """The reply to a call; if it was not begun, or no reply comes, it is sent now.

        Before that, the replies to `others` are read, which the same operation has begun: who
        waits for a connection keeps none. Callers would wait for each other's, and a bulk call
        for its own.
        """
        self._read(ticket)
        if ticket.reply is not None:
            return ticket.reply
        for other in others:
            self._read(other)
        if ticket.error is not None:
            pause = ticket.attempts.failed(ticket.error, ticket.call)
            self._learn_from(ticket.error, ticket.node, slot_of(ticket.call.keys[0]))
            time.sleep(pause)
        return self._send(ticket.call, ticket.attempts)

    def abandon(self, ticket: Ticket) -> None:
        """Nobody waits for this reply any more; its connection is not used again with it."""
        self._let_go(ticket)

    def server(self, attempts: Attempts) -> server_check.ServerInfo:
        """The server, or a node of the cluster, once checked."""
        while (patience := self._contact.patience(attempts)) > 0:
            node = None
            attempt.begin(patience)
            try:
                node = self._node(self.topology.owner_of(None))
                return self._check(node, attempts)
            except JUDGED as error:
                self._recognise(error, node, attempts)
                pause = attempts.failed(error)
                self._learn_from(error, node, None)
            time.sleep(pause)
        raise attempts.over()

    def close(self) -> None:
        """Close every connection, for good: whoever still waits for a reply is told so."""
        self._closed = True
        for node in list(self._nodes.values()):
            node.close()

    # --- which server ---------------------------------------------------------------------

    def _node(self, address: Address | None) -> Node:
        node = self._nodes.get(address)
        if node is None:
            options = self._options
            if address is not None:
                options = options | {"host": address[0], "port": address[1]}
            # Of two threads that come at once, both get the same one.
            node = self._nodes.setdefault(address, Node(address, self._max, self._kind, options))
        return node

    def _owner(self, slot: int, attempts: Attempts) -> Node:
        topology = self.topology
        if topology.is_cluster is None:
            self._check(self._node(None), attempts)
        if topology.is_stale:
            asked = self._node(topology.who_to_ask())
            try:
                ranges = self._ask(asked, attempts, "CLUSTER", "SLOTS")
            except (redis.ConnectionError, redis.TimeoutError, OSError):
                topology.not_reached(asked.address)
                raise
            topology.learn(ranges, asked.address or self._given())
            self._forget_gone()
        owner = topology.owner_of(slot)
        if owner is None and topology.is_cluster:
            topology.is_stale = True
            raise redis.exceptions.ClusterDownError(f"slot {slot} is served by no node")
        return self._node(owner)

    def _known_owner(self, slot: int) -> Node | None:
        """The owner, if nobody has to be asked who it is and whether it can be trusted."""
        topology = self.topology
        if topology.is_cluster is None or topology.is_stale:
            return None
        owner = topology.owner_of(slot)
        if owner is None and topology.is_cluster:
            return None
        node = self._node(owner)
        known = node.info is not None and not server_check.is_due(node.looked_at, node.known_at)
        return node if known else None

    def _forget_gone(self) -> None:
        """Nodes come and go, with new addresses each time: those that left are not kept."""
        for address in [a for a in list(self._nodes) if not self.topology.knows(a)]:
            node = self._nodes.pop(address, None)
            if node is not None:
                node.retire()

    def _primary_changed(self) -> None:
        """No connection to the former primary is used again."""
        self._node(None).forget()

    def _given(self) -> Address:
        return self._options.get("host", "localhost"), int(self._options.get("port", 6379))

    def _learn_from(self, error: Exception, node: Node | None, slot: int | None) -> Address | None:
        """What a failed attempt tells of the servers; where to ask next time only, if anywhere."""
        asked = node.address if node and node.address else self._given()
        if isinstance(error, redis.exceptions.MovedError):
            self.topology.moved(error.slot_id, (error.host, error.port), asked)
        elif isinstance(error, redis.exceptions.AskError):
            return self.topology.redirect((error.host, error.port), asked)
        elif isinstance(error, ANOTHER_SERVER):
            if node is not None:
                node.forget()
            self.topology.is_stale = bool(self.topology.is_cluster)
        elif isinstance(error, NoneFree):
            return None
        elif isinstance(error, (redis.ConnectionError, redis.TimeoutError, OSError)) and node:
            node.info = None  # another server may answer there now: it is checked again
            self.topology.not_reached(node.address)
        return None

    def _recognise(self, error: Exception, node: Node | None, attempts: Attempts) -> None:
        """Raise ConfigurationError if it is a wrong server that the attempt failed with."""
        self._contact.check(error, attempts)
        if self._contact.is_open(error, attempts):
            address = node.address if node else self.topology.who_to_ask()
            self._contact.look(address or self._given(), error, attempts)

    def _check(self, node: Node, attempts: Attempts) -> server_check.ServerInfo:
        """What a server is, asked by the first call and by one call every LOOK_AGAIN_S.

        After twice that without an answer, by every call until there is one.
        """
        known = node.info
        if known is not None and not server_check.is_due(node.looked_at, node.known_at):
            return known
        node.looked_at = time.monotonic()  # the others go on with what is known, if it is young
        try:
            return self._look_at(node, attempts)
        except BaseException:
            node.info = None  # nobody relies on what is not known to be so
            raise

    def _look_at(self, node: Node, attempts: Attempts) -> server_check.ServerInfo:
        begun = time.monotonic()
        raw = self._ask(node, attempts, "INFO", *server_check.INFO_SECTIONS)
        info = server_check.parse_info(raw)
        server_check.check_ready(info)
        found = server_check.check_server(info)
        if self._durability == "fsync":
            policy = self._ask(node, attempts, "CONFIG", "GET", "appendfsync")
            server_check.check_fsync(info, server_check.config_value(policy))
        node.info, node.known_at = found, begun
        self._contact.proven = True
        if self.topology.is_cluster is None:
            self.topology.is_cluster = False
            if info.get("cluster_enabled") == "1":
                self.topology.found_cluster()
        return found

    # --- one request, one reply -----------------------------------------------------------

    def _send(self, call: Call, attempts: Attempts) -> Reply:
        """The reply to a call, from whichever server decides its shard."""
        slot = slot_of(call.keys[0])
        asking: Address | None = None
        while (patience := self._contact.patience(attempts)) > 0:
            node, redirected, asking = None, asking, None
            attempt.begin(patience)
            try:
                node = self._node(redirected) if redirected else self._owner(slot, attempts)
                server = self._check(node, attempts)
                reply: Reply = self._exchange(node, call, attempts, bool(redirected))
                attempts.answered()
                return FromReplica(reply) if server.replica else reply
            except JUDGED as error:
                self._recognise(error, node, attempts)
                pause = attempts.failed(error, call)
                asking = self._learn_from(error, node, slot)
            time.sleep(pause)
        raise attempts.over()

    def _read(self, ticket: Ticket) -> None:
        """Read the reply to what was begun, as long as its attempt may take."""
        if ticket.lease is None:
            return
        try:
            seconds = max(ticket.end - time.monotonic(), 0.001)
            ticket.reply = receive(ticket.lease, seconds)
            ticket.attempts.answered()
        except redis.exceptions.NoScriptError:
            ticket.attempts.sent = False
        except JUDGED as error:  # judged by `finish`
            ticket.error = error
        self._let_go(ticket)

    def _exchange(self, node: Node, call: Call, attempts: Attempts, asking: bool) -> Any:
        """Send a call, and read its reply."""
        lease = self._lease(attempts)
        try:
            node.lend(lease)
            self._check_open()
            if node.info is None and not attempts.returns:
                raise redis.ConnectionError(UNCHECKED)
            commands = commands_of(call, attempts)
            attempts.sending()
            reply = exchange(lease, commands, asking, attempt.end)
            node.give_back(lease)
        except BaseException:  # not `finally`, which can be interrupted before it gives back
            node.give_back(lease)
            raise
        return reply

    def _ask(self, node: Node, attempts: Attempts, *command: str) -> Any:
        """A question about the server itself, on the way of a call."""
        lease = self._lease(attempts)
        try:
            node.lend(lease)
            self._check_open()
            reply = exchange(lease, [command], False, attempt.end)
            node.give_back(lease)
        except BaseException:
            node.give_back(lease)
            raise
        return reply

    def _lease(self, attempts: Attempts) -> SyncLease:
        self._check_open()
        return SyncLease(attempts.deadline, attempts.returns, attempts.alone)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"{CLOSED}. It was not applied")

    def _let_go(self, ticket: Ticket) -> None:
        if ticket.node is not None and ticket.lease is not None:
            ticket.node.give_back(ticket.lease)
            ticket.lease = None
