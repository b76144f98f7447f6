"""The synchronous client: runs operations for threads, knows no subject."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from redis import Redis, RedisCluster

from flashsale import inventory, limits, server_check
from flashsale.attempts import Attempts, Span, out_of_time
from flashsale.batches import Item, Kind
from flashsale.batching import BATCH_MAX, BYTES_MAX, QUEUE_MAX, Gathering
from flashsale.calls import Call, Compute, Operation, Pause, Receive, Reply, Send
from flashsale.connecting import (
    FORKS,
    MAX_CONNECTIONS,
    load_everything,
    url_or_environment,
)
from flashsale.errors import ConfigurationError, FlashSaleError, StoreUnavailable
from flashsale.keyring import Key, Keyring
from flashsale.models import Answer, Sale
from flashsale.pickling import NotPickled
from flashsale.readings import TooLate
from flashsale.sync.connections import Connections, Ticket
from flashsale.sync.gathering import Gatherer
from flashsale.sync.handles import SaleHandle
from flashsale.sync.sharing import Readings
from flashsale.sync.waiting import Watches
from flashsale.waiting_room import Rooms
from flashsale.window import CUES_MAX, Known

if TYPE_CHECKING:
    from flashsale.embedded import EmbeddedServer

T = TypeVar("T")


class FlashSale(NotPickled):
    """The engine for synchronous programs; threads, or gevent's greenlets, may share one.

    `client` is a `redis.Redis` of your own (also one of a Sentinel's `master_for`) or a
    `redis.RedisCluster`; its connection settings are used, in pools that belong to this
    object. `timeout_ms` (1 to 600,000) bounds every call, retries included, but for the operating
    system's look-up of a host's name, which no thread can interrupt (its own bounds are in
    resolv.conf; give an address where that matters); a call may set its own.
    `durability`: "memory" is what the server's settings give; "fsync" means that an
    acknowledged order is on disk, and is checked before a server is used. Its settings are
    looked at again every ten seconds, by a call on its way: if they do not fit any more, it and
    every further call raises ConfigurationError. Nothing is sent on a look that began twenty
    seconds before or earlier: so long what was changed behind a live connection may go unnoticed.

    Calls made at the same time share script calls: ask for one order at a time, in as many threads
    as you like. At most `queue_max` of them (1 to 10,000,000) and about `queue_bytes_max` bytes
    (1 to 10^12) wait here, one sale's at most as many as there is room left for others; beyond
    that a call raises Overloaded at once. Calls for one buyer are sent one after the other, in
    their order, and at most 128 of one buyer wait for one of the same buyer.

    `keys`: the secrets that sign tickets, newest first (`flashsale.Key`), the same in every
    process; only waiting rooms and cues need them. `embedded` makes one of its own. `draw_keys`:
    those that fix draws, by default the same; processes that only take entries need none of them,
    unless a cue has keep="best".

    What interrupts a call from outside (a signal handler's exception, the error of a
    `gevent.Timeout`) is raised to that call's caller alone, as it is; an OSError cannot be told
    from a lost connection's. The call may have been applied: repeat it. A signal handler must not
    use the client it interrupted: ConfigurationError.

    Belongs to the process that made it: use after a fork raises ConfigurationError.
    """

    _instead = "make one in each process, from the URL"

    def __init__(
        self,
        client: Redis | RedisCluster,
        *,
        timeout_ms: int = 2_000,
        durability: server_check.Durability = "memory",
        queue_max: int = QUEUE_MAX,
        queue_bytes_max: int = BYTES_MAX,
        keys: Sequence[Key] = (),
        draw_keys: Sequence[Key] | None = None,
    ) -> None:
        timeout_ms, durability = server_check.check_options(timeout_ms, durability)
        load_everything()
        self._keyring = Keyring(keys)
        self._draw_keys = self._keyring if draw_keys is None else Keyring(draw_keys, "draw_keys")
        self._cues: dict[tuple[str, str], Known] = {}
        self._watches = Watches()
        self._rooms = Rooms()
        self._readings = Readings()
        self.timeout_ms = timeout_ms
        self.durability = durability
        self._connections = Connections(client, durability)
        policy = Gathering(
            batch_max=BATCH_MAX[durability],
            queue_max=queue_max,
            bytes_max=queue_bytes_max,
            server_of=self._connections.topology.server_of,
        )
        self._gatherer = Gatherer(policy, self._drive)
        self._forks = FORKS.count
        self._closed = False
        self._performing: set[int] = set()
        self._embedded: EmbeddedServer | None = None

    @classmethod
    def from_url(
        cls,
        url: str | None = None,
        *,
        timeout_ms: int = 2_000,
        durability: server_check.Durability = "memory",
        max_connections: int = MAX_CONNECTIONS,
        queue_max: int = QUEUE_MAX,
        queue_bytes_max: int = BYTES_MAX,
        keys: Sequence[Key] = (),
        draw_keys: Sequence[Key] | None = None,
    ) -> Self:
        """Connect to `url`, or to FLASHSALE_URL; ConfigurationError if there is neither.

        redis://, valkey://, or with TLS rediss://, valkeys://, or unix://; special characters of a
        user or password as %XX. What it may say and what not is in `flashsale.server_url`. Of a
        cluster, any node will do. `max_connections` (1 to 10,000) is that to each server; calls
        that find none free are served in the order in which they came. They wait within their
        `timeout_ms`; of single calls (find, snapshot …) some 512 for each second of it, 4,096 at
        most: one more raises Overloaded at once.
        """
        timeout_ms, durability = server_check.check_options(timeout_ms, durability)
        seconds = timeout_ms / 1000
        client = Redis.from_url(
            url_or_environment(url),
            max_connections=limits.check_int("max_connections", max_connections, 1, 10_000),
            socket_timeout=seconds,
            socket_connect_timeout=seconds,
        )
        return cls(
            client,
            timeout_ms=timeout_ms,
            durability=durability,
            queue_max=queue_max,
            queue_bytes_max=queue_bytes_max,
            keys=keys,
            draw_keys=draw_keys,
        )

    @classmethod
    def embedded(
        cls,
        *,
        timeout_ms: int = 2_000,
        durability: server_check.Durability = "memory",
        keys: Sequence[Key] = (),
        draw_keys: Sequence[Key] | None = None,
    ) -> Self:
        """Start a server of this client's own; `close` stops it and its data are gone."""
        from flashsale.embedded import EmbeddedServer

        server = EmbeddedServer.start(durability=durability)
        own = keys or (Key.random(),)
        shop = cls.from_url(
            server.url, timeout_ms=timeout_ms, durability=durability, keys=own, draw_keys=draw_keys
        )
        shop._embedded = server
        return shop

    def __enter__(self) -> Self:
        self._check_owner()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except Exception as failure:
            if error is None:
                raise
            error.add_note(f"closing the client failed, too: {failure!r}")

    def close(self, *, drain_ms: int | None = None) -> None:
        """Wait for the calls that were accepted, at most `drain_ms` (default: `timeout_ms`).

        Then close the connections and stop the embedded server, if there is one. A call without
        an answer by then raises StoreUnavailable (it was not sent) or OutcomeUnknown. Idempotent.
        """
        self._check_process()
        seconds = self._limit(drain_ms) / 1000
        self._closed = True
        deadline = time.monotonic() + seconds
        try:
            self._gatherer.drain(seconds)
            while self._performing and time.monotonic() < deadline:
                time.sleep(0.001)
        finally:
            try:
                self._connections.close()
            finally:
                if self._embedded is not None:
                    self._embedded.stop()

    @property
    def url(self) -> str | None:
        """The embedded server's URL, for other processes; None without one."""
        return None if self._embedded is None else self._embedded.url

    def server(self, *, timeout_ms: int | None = None) -> server_check.ServerInfo:
        """The server's name and version, checked to be one this library can trust."""
        self._check_owner()
        return self._connections.server(Attempts.within(self._limit(timeout_ms)))

    def open(self, sale: Sale, *, timeout_ms: int | None = None) -> SaleHandle:
        """Create a sale: the operator's one-time step. A service attaches.

        The same definition again is a no-op; another one raises Rejected with CONFLICT, an id
        that was purged with PURGED. The handle's `created` says whether the sale is new: where
        it should have been there (a server that restarted empty), its whole stock is for sale
        again. It is False, too, for the retry of a call whose answer was lost.
        """
        answer = self.perform(inventory.open_sale(sale), timeout_ms)
        return SaleHandle(self, answer.sale, created=not answer.replayed)

    def attach(self, sale: str | Sale, *, timeout_ms: int | None = None) -> SaleHandle:
        """Attach to a sale that is there: what a service does. It never creates one.

        sale: its id, or its definition, which is compared then. Raises Rejected: SALE_UNKNOWN
        (it was never opened here, or its server has lost it), PURGED, CONFLICT (another
        definition).
        """
        sale_id = self.perform(inventory.attach_sale(sale), timeout_ms)
        return SaleHandle(self, sale_id)

    def sale(self, sale_id: str) -> SaleHandle:
        """A sale, unchecked and without I/O; its verbs answer SALE_UNKNOWN if it is not there."""
        return SaleHandle(self, sale_id)

    # --- moving bytes ---------------------------------------------------------------------

    def perform(self, operation: Operation[T], timeout_ms: int | None = None) -> T:
        """Run an operation: send its calls, give it the replies, return its result."""
        self._check_owner()
        attempts = Attempts.within(self._limit(timeout_ms))
        try:
            self._performing.add(id(attempts))
            result = self._drive(operation, attempts)
            self._performing.discard(id(attempts))
        except BaseException:  # not `finally`, which can be interrupted itself
            self._performing.discard(id(attempts))
            raise
        return result

    def _share(self, name: Hashable, read: Callable[[int], T], timeout_ms: int | None) -> T:
        """What somebody has begun to read, or else is read now, with the milliseconds given."""
        self._check_owner()  # what is kept must not answer where nothing can be asked
        span = self._span(timeout_ms)
        try:
            return self._readings.share(
                name, lambda: read(span.left_ms), span.deadline, any_age=True
            )
        except TooLate:
            raise StoreUnavailable(out_of_time(span.limit_ms)) from None

    def _remember_cue(self, known: Known) -> None:
        if len(self._cues) >= CUES_MAX:
            self._cues.clear()
        self._cues[known.cue.sale, known.cue.id] = known

    def _ask(self, kind: Kind, item: Item, timeout_ms: int | None) -> Answer:
        """The answer to one operation, which shares its script call with others'."""
        self._check_owner()
        limit_ms = self.timeout_ms if timeout_ms is None else self._limit(timeout_ms)
        return self._gatherer.ask(kind, item, limit_ms)

    def _drive(self, operation: Operation[T], attempts: Attempts) -> T:
        begun: list[Ticket] = []
        try:
            return self._run(operation, attempts, begun)
        finally:
            operation.close()
            for ticket in begun:
                self._connections.abandon(ticket)

    def _run(self, operation: Operation[T], attempts: Attempts, begun: list[Ticket]) -> T:
        reserve = attempts.limit_ms / 1000 / 10
        try:
            step = next(operation)
            while True:
                try:
                    reply: Any
                    match step:
                        case Call(shared=True) if not begun:
                            reply = self._read(step, attempts)
                        case Call():
                            reply = self._connections.finish(Ticket(step, attempts), begun)
                        case Send(call=call):
                            own = attempts
                            if begun:
                                own = Attempts(attempts.deadline, attempts.limit_ms)
                            reply = Ticket(call, own)
                            begun.append(reply)
                            self._connections.begin(reply)
                        case Receive(ticket=ticket):
                            try:
                                reply = self._connections.finish(ticket, begun)
                            except FlashSaleError:
                                begun.remove(ticket)
                                raise
                            begun.remove(ticket)  # any other exception leaves it to `_drive`
                        case Compute(function=function):
                            reply = function()
                        case Pause(seconds=seconds):
                            # What follows needs time, too: without it, it would end unknown.
                            reply = attempts.remaining() - seconds > reserve
                            if reply:
                                time.sleep(seconds)
                except FlashSaleError as error:
                    step = operation.throw(error)
                else:
                    step = operation.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result

    def _read(self, call: Call, attempts: Attempts) -> Reply:
        """The reply to a call that others may make at this time, too."""
        name = (call.script.sha, call.keys, call.args)
        ticket = Ticket(call, attempts)
        try:
            return self._readings.share(
                name, lambda: self._connections.finish(ticket, ()), attempts.deadline
            )
        except TooLate:
            raise attempts.over() from None

    def _span(self, timeout_ms: int | None) -> Span:
        """The time of a call that is made of several parts."""
        return Span(self._limit(timeout_ms))

    def _limit(self, timeout_ms: int | None) -> int:
        if timeout_ms is None:
            return self.timeout_ms
        return limits.check_int("timeout_ms", timeout_ms, 1, 600_000)

    def _check_owner(self) -> None:
        self._check_process()
        if self._closed:
            raise ConfigurationError("this FlashSale is closed")

    def _check_process(self) -> None:
        if FORKS.count != self._forks:
            raise ConfigurationError("this FlashSale was made before a fork: make one per process")
