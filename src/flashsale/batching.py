"""When waiting operations become a batch, and what too many of them means: the policy, no I/O.

Callers that ask at the same time share script calls. There is no timer: an operation that finds
nothing of its lane on its way goes at once; what waits when a reply comes back goes next, and a
full batch goes without waiting for one. So an idle client adds no delay, and a busy one sends
batches that grow with the load.

A lane is what may travel in one batch: one script on one shard, with time limits of the same
order. Sales take turns, and so do the lanes of a sale: a quiet sale waits for at most one batch of
each of the others, however many operations and lanes a noisy one has waiting. What a sale may have
waiting is bounded by what is left for the others (dynamic thresholds: Choudhury and Hahne, "Dynamic
queue length thresholds for shared-memory packet switches", IEEE/ACM Transactions on Networking
6(2), 1998, with a factor of one), so none can fill the queue alone; nor can one buyer.

Each server of a cluster is sent batches as if it were the only one: those on their way to one that
is silent hold up no sale of another.

Operations of one buyer go one after the other, in the order they came: the next is not sent
before the last was answered. The scripts are fastest for a batch of buyers they do not know yet,
so holds that suggest a retry (of a buyer with an operation on its way just now, or whose last one
ended without an answer) travel in lanes of their own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from operator import attrgetter
from typing import Any, Protocol

from msgspec import Struct

from flashsale.attempts import Attempts
from flashsale.batches import VALUES_MAX, Item, Kind
from flashsale.errors import Overloaded
from flashsale.limits import LOOP_MAX, check_int

BATCH_MAX = {"memory": 256, "fsync": 1_024}
"""Operations in one batch: more gain nothing in server time, unless every batch costs a write to
the disk, and keep other callers waiting longer."""

QUEUE_MAX = 65_536
"""Operations waiting in one client, batches on their way not counted."""

BYTES_MAX = 64 * 1024 * 1024
"""Roughly their bytes: 256 an operation, 32 a sku or quantity, 4 a character of a note."""

BUYER_MAX = 128
"""Operations of one buyer of a sale that wait in a client behind another one of the same buyer:
they go one after the other, and must not take the room of others."""

IN_FLIGHT_MAX = 16
"""Batches of a client on their way to one server at a time."""

LANE_IN_FLIGHT_MAX = 4
"""Of them, those of one lane: enough to keep a server busy across a network."""

SUSPECTS_MAX = 65_536
"""Buyers remembered because their last operation ended without an answer."""


_deadline_of = attrgetter("deadline")


class Caller(Protocol):
    """Who waits for an answer: an `asyncio.Future`, or a thread's."""

    def done(self) -> bool:
        """Whether it was answered, timed out or has gone: then it is not sent any more."""


class Pending(Struct, eq=False):
    """One operation of one caller, from `offer` to its answer."""

    item: Item
    caller: Any
    deadline: float
    limit_ms: int
    size: int
    lane: Lane
    preceding: Pending | None = None
    following: Pending | None = None
    over: bool = False


class Lane(Struct, eq=False):
    """What may travel in one batch: one script, one sale, limits of the same pace, retries or not.

    Limits of one `pace` differ by less than a factor of two: a caller who gives what is left of
    a request's time shares batches, and none is tried at a pace that leaves it a single attempt.
    """

    kind: Kind
    pace: int
    suspect: bool
    sale: SaleQueue
    waiting: deque[Pending]
    in_flight: int = 0
    behind: int = 0
    ready: bool = False


class SaleQueue(Struct, eq=False):
    """What all lanes of a sale share: how much waits, its turns, each buyer's last operation.

    `behind_of`: how many of a buyer's wait behind another one, for buyers who have such.
    """

    id: str
    last_of: dict[str, Pending]
    ready: deque[Lane]
    behind_of: dict[str, int]
    waiting: int = 0
    bytes: int = 0
    lanes: int = 0


class Server(Struct, eq=False):
    """What goes to one server: the sales that take turns, and how many batches are on their way."""

    ready: deque[SaleQueue]
    in_flight: int = 0


class Batch(Struct, eq=False):
    """Operations that travel together, tried until the last deadline of theirs.

    `carrier`: the caller or the task that sends it. `carriers`: how many came to grief.
    """

    lane: Lane
    server: Server
    pending: list[Pending]
    attempts: Attempts
    carrier: Any = None
    carriers: int = 0

    @property
    def items(self) -> list[Item]:
        """What to send."""
        return [pending.item for pending in self.pending]


class Gathering:
    """All that waits in one client. Not safe for threads by itself: a shell guards it.

    `offer` what a caller asks for, `take` batches until there is none to send now, tell each
    operation's end with `settled` and each batch's with `finished`, and take again. Ends may be
    told twice. If any of these was interrupted half way, `mend` comes before the next.

    server_of: names the server that decides a sale, as far as is known; it may change.
    """

    def __init__(
        self,
        *,
        batch_max: int = 256,
        queue_max: int = QUEUE_MAX,
        bytes_max: int = BYTES_MAX,
        buyer_max: int = BUYER_MAX,
        in_flight_max: int = IN_FLIGHT_MAX,
        lane_in_flight_max: int = LANE_IN_FLIGHT_MAX,
        server_of: Callable[[str], Hashable] = lambda sale: None,
    ) -> None:
        self.batch_max = batch_max
        self.queue_max = check_int("queue_max", queue_max, 1, 10_000_000)
        self.bytes_max = check_int("queue_bytes_max", bytes_max, 1, 10**12)
        self.buyer_max = buyer_max
        self.in_flight_max = in_flight_max
        self.lane_in_flight_max = lane_in_flight_max
        self.waiting = 0
        self.bytes = 0
        self._offered = 0
        self.flying: set[Batch] = set()
        self.live: dict[Pending, None] = {}  # all that was not settled: the rest follows from it
        self._sales: dict[str, SaleQueue] = {}
        self._lanes: dict[tuple[Kind, int, bool], Lane] = {}
        self._server_of = server_of
        self._servers: dict[Hashable, Server] = {}
        self._behind: set[Pending] = set()
        self._suspects: set[tuple[str, str]] = set()

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is on its way."""
        return not self.waiting and not self.flying

    def offer(
        self, kind: Kind, item: Item, caller: Caller, *, deadline: float, limit_ms: int
    ) -> Pending:
        """Put an operation into the queue; Overloaded, at once, if there is no room for it."""
        self._offered += 1
        pace, buyer = limit_ms.bit_length(), item.buyer
        lane = self._lanes.get((kind, pace, False))
        if lane is None:
            lane = self._lane(kind, pace, False)
        size = 256 + 32 * len(item.lines) + 4 * len(item.second)
        if self.waiting and self._is_full(lane.sale, buyer, size):
            lane = self._make_room(lane, buyer, size)
        last = lane.sale.last_of.get(buyer)
        if (last is not None or self._suspects) and self._is_suspect(kind, item, last):
            plain, lane = lane, self._lane(kind, pace, True)
            self._close_if_empty(plain)
        pending = Pending(item, caller, deadline, limit_ms, size, lane)
        self.live[pending] = None
        self._queue(pending)
        return pending

    def take(self) -> Batch | None:
        """The batch to send now, if there is one; sales take turns, and in a sale its lanes."""
        while (server := self._server_with_room()) is not None:
            sale = server.ready.popleft()
            lane = sale.ready.popleft()
            lane.ready = False
            if sale.ready:
                self._line_up(sale)
            if not self._may_go(lane):
                continue
            chosen = self._choose(lane)
            if not chosen:
                self._close_if_empty(lane)
                continue
            last = max(chosen, key=_deadline_of)
            batch = Batch(lane, server, chosen, Attempts(last.deadline, last.limit_ms))
            lane.in_flight += 1
            server.in_flight += 1
            self.flying.add(batch)
            self._make_ready(lane)
            return batch
        return None

    def settled(self, pending: Pending, *, unanswered: bool = False) -> None:
        """An operation came to its end; the next one of its buyer may go.

        `unanswered`: nobody knows what became of it, so the buyer's next hold may be a retry.
        Only the first word counts.
        """
        if pending.over:
            return
        pending.over = True
        self.live.pop(pending, None)
        last_of, buyer = pending.lane.sale.last_of, pending.item.buyer
        if unanswered:
            if len(self._suspects) >= SUSPECTS_MAX:
                self._suspects.clear()
            self._suspects.add((pending.lane.kind.sale, buyer))
        following = pending.following
        if following is not None:
            pending.following = following.preceding = None
            self._no_longer_behind(following)
            following.lane.waiting.append(following)
            self._make_ready(following.lane)
        elif last_of.get(buyer) is pending:
            del last_of[buyer]

    def finished(self, batch: Batch) -> None:
        """A batch came to its end: what waits in its lane may go.

        An operation of it that was not settled is so now, without an answer: the next one of
        its buyer must not wait for ever.
        """
        if batch not in self.flying:
            return
        lane = batch.lane
        for pending in batch.pending:
            if not pending.over:
                self.settled(pending, unanswered=True)
        self.flying.discard(batch)
        lane.in_flight -= 1
        batch.server.in_flight -= 1
        self._make_ready(lane)
        self._close_if_empty(lane)

    def drop_gone(self) -> None:
        """Forget what waits for callers who have gone, so that it takes no room."""
        for pending in [p for p in self._behind if p.caller.done()]:
            self._unlink(pending)
        for lane in list(self._lanes.values()):
            gone = [pending for pending in lane.waiting if pending.caller.done()]
            if gone:
                kept = [pending for pending in lane.waiting if not pending.caller.done()]
                lane.waiting = deque(kept)
                for pending in gone:
                    self._uncount(pending)
                    self.settled(pending)
                self._close_if_empty(lane)

    def mend(self) -> None:
        """Put everything together anew, from what is live and what is on its way.

        It can be interrupted, too, and begins anew then. Whoever has gone is left out.
        """
        self.waiting = self.bytes = 0
        self._sales, self._lanes, self._servers, self._behind = {}, {}, {}, set()
        flying = [pending for batch in self.flying for pending in batch.pending]
        together = dict.fromkeys(pending for pending in flying if not pending.over)
        waiting = [
            pending
            for pending in self.live
            if not (pending.over or pending in together or pending.caller.done())
        ]
        for batch in self.flying:
            old = batch.lane
            lane = batch.lane = self._lane(old.kind, old.pace, old.suspect)
            batch.server = self._server(lane.sale)
            lane.in_flight += 1
            batch.server.in_flight += 1
            for pending in batch.pending:
                pending.lane, pending.preceding, pending.following = lane, None, None
                if not pending.over:
                    lane.sale.last_of[pending.item.buyer] = pending
        for pending in waiting:
            old = pending.lane
            pending.lane = self._lane(old.kind, old.pace, old.suspect)
            pending.preceding = pending.following = None
            self._queue(pending)
        self.live = together | dict.fromkeys(waiting)
        for lane in list(self._lanes.values()):
            self._make_ready(lane)
            self._close_if_empty(lane)

    def unanswered(self) -> Iterator[tuple[Pending, Batch | None]]:
        """All that has no answer yet, with the batch it travels in."""
        for lane in self._lanes.values():
            for pending in lane.waiting:
                yield pending, None
        for pending in self._behind:
            yield pending, None
        for batch in self.flying:
            for pending in batch.pending:
                yield pending, batch

    # --- inside ---------------------------------------------------------------------------

    def _queue(self, pending: Pending) -> None:
        """Behind the last one of its buyer, or else where the next batch of its lane is taken."""
        lane = pending.lane
        sale, buyer = lane.sale, pending.item.buyer
        last = sale.last_of.get(buyer)
        sale.last_of[buyer] = pending
        sale.waiting += 1
        sale.bytes += pending.size
        self.waiting += 1
        self.bytes += pending.size
        if last is None:
            lane.waiting.append(pending)
            if not lane.ready:
                self._make_ready(lane)
        else:
            last.following, pending.preceding = pending, last
            self._behind.add(pending)
            lane.behind += 1
            sale.behind_of[buyer] = sale.behind_of.get(buyer, 0) + 1

    def _is_full(self, sale: SaleQueue, buyer: str, size: int) -> bool:
        return (
            sale.waiting >= self.queue_max - self.waiting
            or sale.bytes + size > self.bytes_max - self.bytes
            or sale.behind_of.get(buyer, 0) >= self.buyer_max
        )

    def _make_room(self, lane: Lane, buyer: str, size: int) -> Lane:
        """The lane, which may be a new one, once those who have gone make room; or Overloaded."""
        kind, sale = lane.kind, lane.sale
        # To look at all that waits is cheap after so many offers, and not at every refusal.
        if self._offered * 16 >= self.waiting:
            self._offered = 0
            self.drop_gone()
        if self.waiting and self._is_full(sale, buyer, size):
            self._close_if_empty(lane)
            raise Overloaded(
                f"{self.waiting} operations ({self.bytes} bytes) wait in this client, "
                f"{sale.waiting} of them ({sale.bytes} bytes) for sale {kind.sale!r}, of these "
                f"{sale.behind_of.get(buyer, 0)} behind others of the same buyer: "
                "nothing was sent, try again later"
            )
        return self._lane(kind, lane.pace, False)

    def _choose(self, lane: Lane) -> list[Pending]:
        """The next operations of a lane whose callers still wait."""
        chosen: list[Pending] = []
        waiting, taken, size, values = lane.waiting, 0, 0, 0
        batch_max = self._batch_max(lane)
        while waiting and len(chosen) < batch_max and values < VALUES_MAX:
            pending = waiting.popleft()
            taken += 1
            size += pending.size
            if pending.caller.done():
                self.settled(pending)
            else:
                chosen.append(pending)
                values += len(pending.item.lines)
        lane.sale.waiting -= taken
        lane.sale.bytes -= size
        self.waiting -= taken
        self.bytes -= size
        return chosen

    def _is_suspect(self, kind: Kind, item: Item, last: Pending | None) -> bool:
        """Whether a hold looks like a retry: its buyer's last call is on its way, or got lost."""
        if kind.name != "hold":
            return False
        lost = (kind.sale, item.buyer) in self._suspects
        self._suspects.discard((kind.sale, item.buyer))
        return lost or last is not None

    def _lane(self, kind: Kind, pace: int, suspect: bool) -> Lane:
        key = (kind, pace, suspect)
        lane = self._lanes.get(key)
        if lane is None:
            sale = self._sales.get(kind.sale)
            if sale is None:
                sale = self._sales[kind.sale] = SaleQueue(kind.sale, {}, deque(), {})
            lane = self._lanes[key] = Lane(kind, pace, suspect, sale, deque())
            sale.lanes += 1
        return lane

    def _may_go(self, lane: Lane) -> bool:
        if lane.in_flight == 0:
            return bool(lane.waiting)
        return (
            len(lane.waiting) >= self._batch_max(lane) and lane.in_flight < self.lane_in_flight_max
        )

    def _batch_max(self, lane: Lane) -> int:
        """What looks like a retry goes the exact loop, which judges so many in a call."""
        return min(self.batch_max, LOOP_MAX) if lane.suspect else self.batch_max

    def _make_ready(self, lane: Lane) -> None:
        if not lane.ready and self._may_go(lane):
            lane.ready, sale = True, lane.sale
            if not sale.ready:
                self._line_up(sale)
            sale.ready.append(lane)

    def _line_up(self, sale: SaleQueue) -> None:
        """Let a sale wait for its next turn, at the server that decides it now."""
        self._server(sale).ready.append(sale)

    def _server(self, sale: SaleQueue) -> Server:
        name = self._server_of(sale.id)
        server = self._servers.get(name)
        if server is None:
            server = self._servers[name] = Server(deque())
        return server

    def _server_with_room(self) -> Server | None:
        """A server that may be sent a batch, if there is one; what is idle is forgotten."""
        for name, server in list(self._servers.items()):
            if not server.ready and not server.in_flight:
                del self._servers[name]
            elif server.ready and server.in_flight < self.in_flight_max:
                return server
        return None

    def _unlink(self, pending: Pending) -> None:
        """Forget an operation that waits behind another one of its buyer."""
        before, after = pending.preceding, pending.following
        if before is not None:
            before.following = after
            if after is not None:
                after.preceding = before
            else:
                pending.lane.sale.last_of[pending.item.buyer] = before
        pending.over, pending.preceding, pending.following = True, None, None
        self.live.pop(pending, None)
        self._no_longer_behind(pending)
        self._uncount(pending)
        self._close_if_empty(pending.lane)

    def _no_longer_behind(self, pending: Pending) -> None:
        self._behind.discard(pending)
        pending.lane.behind -= 1
        behind_of, buyer = pending.lane.sale.behind_of, pending.item.buyer
        behind_of[buyer] -= 1
        if not behind_of[buyer]:
            del behind_of[buyer]

    def _uncount(self, pending: Pending) -> None:
        sale = pending.lane.sale
        sale.waiting -= 1
        sale.bytes -= pending.size
        self.waiting -= 1
        self.bytes -= pending.size

    def _close_if_empty(self, lane: Lane) -> None:
        """Forget a lane nobody uses: a client may see any number of sales in its life."""
        if lane.waiting or lane.in_flight or lane.behind:
            return
        key = (lane.kind, lane.pace, lane.suspect)
        if self._lanes.get(key) is lane:
            del self._lanes[key]
            lane.sale.lanes -= 1
            if lane.sale.lanes == 0:
                self._sales.pop(lane.kind.sale, None)
