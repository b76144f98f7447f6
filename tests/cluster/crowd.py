"""Callers of both shells who order at the same time, insist on an answer, and note what it was.

with Crowd(sale.id, open_sync, open_async) as crowd:
    crowd.wait_for(100)          # so many more orders were answered
    ...                          # something terrible
    crowd.wait_for(100)
crowd.was_told_the_truth(sale, definition)
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Generator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from itertools import count
from typing import TYPE_CHECKING, Any, TypeAlias

from faults.checks import books_are_right, events_of
from faults.told import SecondHand, what_callers_were_told_is_true
from flashsale import AsyncFlashSale, FlashSale, Outcome, Sale, Snapshot, StoreError
from support.cluster import within

if TYPE_CHECKING:
    from types import TracebackType

THREADS = 3
TASKS = 6
PAUSE_S = 0.02
PATIENCE_S = 60
"""How long a caller asks the same before it is a failure."""

Question: TypeAlias = tuple[str, tuple[Any, ...], dict[str, Any]]


class Crowd:
    """Orders one unit of "red" at a time; most are paid, some given up, some abandoned.

    Whoever gets no answer asks the same again. `errors` are the calls that had none, `notes`
    the answers, `longest_s` is the longest that a single call took.
    """

    def __init__(
        self,
        sale_id: str,
        open_sync: Callable[[], AbstractContextManager[FlashSale]],
        open_async: Callable[[], AbstractAsyncContextManager[AsyncFlashSale]],
    ) -> None:
        self._sale_id, self._open_sync, self._open_async = sale_id, open_sync, open_async
        self.notes: list[dict[str, Any]] = []
        self.errors: list[StoreError] = []
        self.longest_s = 0.0
        self._failures: list[BaseException] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=[self._order_in_tasks])]

    # --- running --------------------------------------------------------------------------

    def __enter__(self) -> Crowd:
        self._shop = self._open_sync()
        sale = self._shop.__enter__().sale(self._sale_id)
        for number in range(THREADS):
            work = (self._order, sale, f"thread-{number}")
            self._threads.append(threading.Thread(target=self._run, args=work))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._shop.__exit__(kind, error, traceback)
        if self._failures:
            raise self._failures[0]

    def wait_for(self, orders: int) -> None:
        """Wait until so many more orders were answered by either shell."""
        begun = {kind: self._told_to(kind) for kind in ("thread", "task")}
        for kind, before in begun.items():
            enough = before + orders // 2
            within(PATIENCE_S, lambda k=kind, n=enough: self._told_to(k) >= n, f"{kind}s wait")

    def _told_to(self, kind: str) -> int:
        if self._failures:
            raise self._failures[0]
        return sum(note["buyer"].startswith(kind) for note in list(self.notes))

    def _run(self, work: Callable[..., None], *args: Any) -> None:
        try:
            work(*args)
        except BaseException as failure:  # it is raised where the crowd was asked for
            self._failures.append(failure)

    def _order(self, sale: Any, name: str) -> None:
        def ask(verb: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
            end = time.monotonic() + PATIENCE_S
            while True:
                begun = time.monotonic()
                try:
                    return getattr(sale, verb)(*args, **options)
                except StoreError as error:
                    self._complain(error, end)
                finally:
                    self.longest_s = max(self.longest_s, time.monotonic() - begun)

        questions = self._questions(name)
        question = next(questions, None)
        while question is not None:
            answer = ask(*question)
            self._note(question[0], answer)
            time.sleep(PAUSE_S)
            question = _next(questions, answer)

    def _order_in_tasks(self) -> None:
        asyncio.run(self._order_async())

    async def _order_async(self) -> None:
        async with self._open_async() as shop:
            sale = shop.sale(self._sale_id)
            names = [f"task-{number}" for number in range(TASKS)]
            await asyncio.gather(*(self._order_as_task(sale, name) for name in names))

    async def _order_as_task(self, sale: Any, name: str) -> None:
        async def ask(verb: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
            end = time.monotonic() + PATIENCE_S
            while True:
                begun = time.monotonic()
                try:
                    return await getattr(sale, verb)(*args, **options)
                except StoreError as error:
                    self._complain(error, end)
                finally:
                    self.longest_s = max(self.longest_s, time.monotonic() - begun)

        questions = self._questions(name)
        question = next(questions, None)
        while question is not None:
            answer = await ask(*question)
            self._note(question[0], answer)
            await asyncio.sleep(PAUSE_S)
            question = _next(questions, answer)

    # --- what they do ---------------------------------------------------------------------

    def _questions(self, name: str) -> Generator[Question, Any, None]:
        chance = random.Random(name)
        for number in count():
            if self._over.is_set():
                return
            buyer = f"{name}-{number}"
            answer = yield "hold", (buyer, {"red": 1}), {"hold_id": "h"}
            if answer.outcome is not Outcome.HELD:
                continue
            verb = chance.choice(["confirm", "confirm", "release", ""])
            if verb:
                yield verb, (buyer, "h"), {}

    def _complain(self, error: StoreError, end: float) -> None:
        self.errors.append(error)
        if time.monotonic() > end:
            raise error

    def _note(self, verb: str, answer: Any) -> None:
        self.notes.append(
            {
                "told": verb,
                "outcome": answer.outcome.value,
                "buyer": answer.buyer,
                "hold_id": answer.hold_id,
                "deadline": answer.deadline_ms,
                "replayed": answer.replayed,
            }
        )

    # --- afterwards -----------------------------------------------------------------------

    def told(self, outcome: Outcome) -> int:
        """How many answers were this."""
        return sum(note["outcome"] == outcome.value for note in self.notes)

    def was_told_the_truth(self, sale: Any, definition: Sale) -> Snapshot:
        """Every answer is true of what is there now, and the books add up at every step."""
        events = events_of(sale)
        SecondHand(definition).replay(events)
        buyers = {note["buyer"] for note in self.notes}
        holds = {(h.buyer, h.hold_id): h for buyer in buyers for h in sale.holds_of(buyer)}
        what_callers_were_told_is_true(self.notes, events, holds)
        view = books_are_right(sale)
        assert view.skus["red"].sold == self.told(Outcome.CONFIRMED)
        return view


def _next(questions: Generator[Question, Any, None], answer: Any) -> Question | None:
    try:
        return questions.send(answer)
    except StopIteration:
        return None
