"""What a user holds of a cue, with `await`."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING

import msgspec

from flashsale import draw, freezing, limits, settling, window
from flashsale.cues import Cue, CueView, EntryAnswer, Freeze, Settlement, check_cue_id
from flashsale.models import Answer, Basket
from flashsale.pickling import NotPickled

if TYPE_CHECKING:
    from flashsale.aio.client import AsyncFlashSale


class AsyncCueEntry(EntryAnswer, frozen=True, kw_only=True):
    """What became of a tap, and later of the draw."""

    handle: AsyncCueHandle

    async def result(self, *, wait_ms: int = 60_000) -> Answer:
        """`AsyncCueHandle.result` for this buyer."""
        return await self.handle.result(self.buyer, wait_ms=wait_ms)


class AsyncCueHandle(NotPickled):
    """A cue as seen by a service: taps go in, and in the end results come out.

    Attached without I/O; what never changes of a cue is read once, with the first tap. Refusals of
    a tap are outcomes; a cue or a sale that is not there raises Rejected, whatever is asked of it.
    """

    _instead = "send the ids of sale and cue, and attach with shop.sale(id).cue_handle(id)"

    def __init__(self, shop: AsyncFlashSale, sale_id: str, cue_id: str) -> None:
        self._shop = shop
        self.sale = limits.check_id("sale", sale_id)
        self.id = check_cue_id(cue_id)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r} of {self.sale!r}>"

    async def cue(self, *, timeout_ms: int | None = None) -> Cue:
        """The cue as it was fixed when it was opened."""
        return (await self._known(timeout_ms)).cue

    async def view(self, *, timeout_ms: int | None = None) -> CueView:
        """The cue at this moment."""
        return await self._shop.perform(window.view(self.sale, self.id), timeout_ms)

    async def enter(
        self,
        buyer: str,
        basket: Basket,
        *,
        position_ms: int,
        proof: str | None = None,
        minimum: Mapping[str, int] | None = None,
        key: str = "",
        timeout_ms: int | None = None,
    ) -> AsyncCueEntry:
        """Enter a buyer into the draw: a tap, made when the player showed `position_ms`.

        position_ms: on the media timeline of the cue (hls.js: `playingDate`, in milliseconds).
        proof: `flashsale.draw.proof_of` of the nonce that the stream carried, made by the player.
        minimum: per sku the least units to be content with; all or nothing without it. Of several
        taps of a buyer the smallest (window, basket, key) counts, so repeating is harmless; the
        answer says which. key: as of `hold`, and needed if the sale has `key_holds_max`: so many
        entrants of one key take part in the draw (`flashsale.window`). Not with keep="best".
        """
        span = self._shop._span(timeout_ms)
        known = await self._known(span.left_ms)
        own = self._shop._draw_keys.named(known.cue.key) if known.cue.keep == "best" else None
        item = window.enter_item(known, buyer, basket, position_ms, minimum, own, key)
        refused = window.check_proof(known, item.buyer, proof)
        if refused is not None:
            told = window.entry_answer(known, Answer(refused, self.sale, item.buyer))
        else:
            kind = window.enter_kind(self.sale, known)
            answer = await self._shop._ask(kind, item, span.left_ms)
            told = window.entry_answer(known, answer, item.lines)
        return AsyncCueEntry(**msgspec.structs.asdict(told), handle=self)

    async def result(self, buyer: str, *, wait_ms: int = 60_000) -> Answer:
        """What the draw gave a buyer: HELD, to be paid until the deadline, NOT_DRAWN, or why not.

        Waits for it, at most `wait_ms` (0 to 3,600,000), and answers NOT_CLOSED or FROZEN if it is
        not revealed by then. Any number of callers may wait: one of a client's asks for all of
        them, from the announced time on, and once the result is there each asks for its own,
        together. A question that fails is told to all who wait; it has the client's `timeout_ms`.
        HELD tells what was drawn, for ever; past its deadline the hold has expired, also where a
        settlement was stopped on its way for so long before it revealed anything.
        """
        item = window.result_item(self.id, buyer)
        kind = window.result_kind(self.sale, self.id)
        deadline = time.monotonic() + window.check_wait(wait_ms) / 1000

        def ask() -> Awaitable[Answer]:
            return self._shop._ask(kind, item, None)

        self._shop._check_owner()  # in another process nobody asks for those who wait
        watches = self._shop._watches
        while True:
            remaining = deadline - time.monotonic()
            watch = watches.get(self.sale, self.id)
            if watch is None or remaining <= 0:
                answer = await ask()
                if answer.outcome not in window.NOT_YET or remaining <= 0:
                    return answer
                pauses = window.pauses(await self.cue(), answer)
                watch = watches.join(self.sale, self.id, ask, pauses)
            await watch.wait(deadline - time.monotonic())

    async def freeze(
        self,
        *,
        entropy: draw.EntropySource | None = None,
        wait: bool = True,
        timeout_ms: int = 120_000,
    ) -> Freeze:
        """End the entering for ever, and tell the digest of the entrants, which fixes them.

        Published before anybody can know the result, the digest proves that nobody was chosen by
        their luck. Any process may freeze, also several at once and again: it is done once. wait:
        until the cue closes; without it NOT_CLOSED is answered at once. entropy: the source of a
        public draw, asked first: where its value is there already the cue is void, as it is when
        it is frozen later than `freeze_by_ms`. timeout_ms: 1 to 600,000, not for the waiting.
        """
        return freezing.freeze_of(await self._freeze(entropy, timeout_ms, wait=wait))

    async def settle(
        self,
        *,
        entropy: draw.EntropySource | None = None,
        publish: freezing.Publish | None = None,
        wait: bool = True,
        timeout_ms: int = 120_000,
    ) -> Settlement:
        """Freeze, draw, give the winners their holds, reveal; pass on what fell free since.

        Any process with the draw key may settle, stop at any step and do it again, several at
        once too. Nothing but the digest is written of a draw before the announced time
        (`reveals_at_ms`), and so nobody can be told. The seed and the source's value are kept with
        the first winner's hold: whoever goes on from there needs neither the key nor the source,
        and draws by nothing else. What a winner drew who is refused (a limit, too many holds) goes
        to the next in order before the result is revealed; what one gives up or does not pay for
        does so until the reserve ends. Winners have the sale's `hold_ttl_ms` from the award, so a
        settlement that was stopped after its first award must be gone on with before that has
        passed, or those who were drawn lose their places to the next.

        Call it when the cue closes, and again as often as you like while it keeps a reserve. wait:
        until it closes, for the public seed, and until the announced time; without it NOT_CLOSED
        or FROZEN is answered at once. entropy: the source the cue was opened with. timeout_ms is
        for each part of the work (1 to 600,000), not for the waiting.

        publish: for a cue that was opened with a place for its digest: called with the digest and
        the cue (`AsyncFlashSale` awaits it, if need be) until it has returned once, so perhaps
        twice; what it raises reaches you, and nothing is noted. Winners are given their holds
        `publish_wait_ms` later. Without it such a cue raises InvalidRequest.
        """
        frozen = await self._freeze(entropy, timeout_ms, wait=wait)
        frozen = await self._publish(frozen, publish, entropy, timeout_ms)
        cue = frozen.known.cue
        key = settling.key_for(frozen, self._shop._draw_keys)
        value = None
        while settling.needs_entropy(frozen):
            source = freezing.check_source(cue, entropy)
            value = await asyncio.to_thread(source.fetch, cue.entropy_round or 0)
            if value is not None or not wait:
                break
            await asyncio.sleep(0.5)
        ready = await self._shop.perform(settling.prepare(frozen, key, value), timeout_ms)
        while True:
            told = await self._shop.perform(settling.finish(ready), timeout_ms)
            wake_ms = settling.wait_to_award(frozen, told) if wait else 0
            if not wake_ms:
                return told
            await asyncio.sleep(wake_ms / 1000)

    async def _freeze(
        self, entropy: draw.EntropySource | None, timeout_ms: int, *, wait: bool
    ) -> freezing.Frozen:
        while True:
            step = freezing.freeze(self.sale, self.id, entropy)
            frozen = await self._shop.perform(step, timeout_ms)
            wake_ms = freezing.wait_for_close(frozen) if wait else 0
            if not wake_ms:
                return frozen
            await asyncio.sleep(wake_ms / 1000)

    async def _publish(
        self,
        frozen: freezing.Frozen,
        publish: freezing.Publish | None,
        entropy: draw.EntropySource | None,
        timeout_ms: int,
    ) -> freezing.Frozen:
        publish = freezing.check_publish(frozen, publish)
        if publish is None:
            return frozen
        done = publish(frozen.view.digest, frozen.known.cue)
        if inspect.isawaitable(done):
            await done
        return await self._shop.perform(freezing.published(frozen, entropy), timeout_ms)

    async def void(self, reason: str, *, timeout_ms: int | None = None) -> Answer:
        """Say that the cue does not count; its stock stays set aside until you say where it goes.

        VOID; FROZEN once winners have holds (settle it), SETTLED once it is revealed. The stock
        goes to open sale (`give_back`), or to another cue (`sale.cue(…, stock_of=)`).
        """
        return await self._shop.perform(freezing.void(self.sale, self.id, reason), timeout_ms)

    async def give_back(self, *, timeout_ms: int | None = None) -> Answer:
        """Put what a void cue still sets aside on open sale.

        GIVEN_BACK. Once the cue's time has come NOT_CLOSED until `reveals_at_ms`: a void must not
        turn a draw into a race. A cue that is not void keeps it: NOT_CLOSED, FROZEN or SETTLED.
        """
        return await self._shop.perform(freezing.give_back(self.sale, self.id), timeout_ms)

    async def record(self, *, timeout_ms: int = 120_000) -> dict[str, object]:
        """The public record of the draw, for `flashsale.verify`; Rejected before it is revealed."""
        return await self._shop.perform(
            settling.record(self.sale, self.id, self._shop._draw_keys), timeout_ms
        )

    async def _known(self, timeout_ms: int | None) -> window.Known:
        self._shop._check_owner()  # what is kept must not answer where nothing can be asked
        found = self._shop._cues.get((self.sale, self.id))
        if found is not None:
            return found
        name = ("cue", self.sale, self.id)
        return await self._shop._share(name, self._know, timeout_ms)

    async def _know(self, timeout_ms: int | None) -> window.Known:
        found = await self._shop.perform(window.know(self.sale, self.id), timeout_ms)
        self._shop._remember_cue(found)
        return found
