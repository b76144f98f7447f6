"""A sale in plain Python: what the engine must answer, without a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flashsale.testing.hold_verbs import HoldVerbs
from flashsale.testing.room_verbs import OracleRoom
from flashsale.testing.sale_verbs import SaleVerbs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashsale.ledger import Entry


class OracleSale(HoldVerbs, SaleVerbs):
    """The model of one sale: every verb, with the moment it happens given by the caller.

    It is written from the state table in ``lua/README.md`` and from nothing else, so that
    the engine and the model can be held against each other, and it answers with the
    library's own models, so that ``==`` compares them. No I/O, no clock, not safe for
    threads. A sale of several shards is several of these.

    `now_ms` is the server's time; like a shard, the model uses max(now_ms, `last_ms`), the
    time of its last write. To compare with a live engine, ask the engine first and the
    oracle second, with ``now_ms=answer.at_ms``: deadlines and what is due are then exact to
    the millisecond, also when a call falls on a deadline. The engine's `find`, `holds_of`
    and `expire` do not say when they looked. Ask the oracle for the time of the answer
    before and for that of the answer after: if both agree the engine must agree too, and
    otherwise it must agree with one moment between them.

    Left out: TRY_AGAIN, because the model expires everything that is due before it judges,
    where the engine expires a bounded number a call and its clients then ask again; stock set
    aside; the bound of refunds of a buyer whose record is longer than 32 KiB. A server's clock that
    is not believed (CLOCK_JUMP) is `clock_ms`, set by the test.

    Requests are checked by the clients' rules, with the same `InvalidRequest`.
    """

    @property
    def queue(self) -> OracleRoom:
        """The sale's waiting room, whether or not it was opened."""
        return OracleRoom(self)

    @property
    def entries(self) -> Sequence[Entry]:
        """The ledger: one entry for every call that wrote, its events in their order.

        The engine's entries are the same, except that it tells the events of an entry kind
        by kind, and that its clients cut a large bulk call into several entries.
        """
        return tuple(self._books.entries)

    def check(self) -> None:
        """Raise AssertionError with a clear text unless the sale's books are right.

        Per sku `allotment = available + set aside + held + sold`, none below zero, the
        figures equal to those of the holds, and no buyer above a limit.
        """
        self._books.check(self._hold(record, as_swept=False) for record in self._records())
