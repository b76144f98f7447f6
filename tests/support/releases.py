"""Clients of this release and of another one, each in a process of its own.

    python releases.py URL sync|async [LUA_FOLDER]

A process reads pickled questions from its standard input and answers each on its standard
output. Asked one after the other, the processes make one course of events that repeats.
"""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, cast

from flashsale import FlashSale, FlashSaleError, Sale, SaleHandle, scripts
from support.shells import SHELLS, connect

CALL_MS = 20_000

Question = tuple[str, str, tuple[Any, ...], dict[str, Any]]
"""A sale's id, a verb ("hold", "ledger.read"), its arguments and options."""


def use(lua_folder: str) -> None:
    """Let this process be a client of another release."""
    scripts.lua_folder = lambda: Path(lua_folder)
    scripts.load_script.cache_clear()


def environment() -> dict[str, str]:
    """Another process finds what this one has found."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


# --- here ---------------------------------------------------------------------------------


class Client:
    """A client of some release in a process of its own."""

    def __init__(self, url: str, shell: str, lua_folder: Path | None) -> None:
        command = [sys.executable, __file__, url, shell]
        self._process = subprocess.Popen(
            [*command, str(lua_folder)] if lua_folder else command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
        )

    def ask(self, question: Question) -> Any:
        """What the client says to it: a result, or the error that it raises."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        pickle.dump(question, process.stdin)
        process.stdin.flush()
        result = pickle.load(process.stdout)
        if isinstance(result, FlashSaleError):
            raise result
        return result

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()


class Fleet:
    """Several clients that pass for one; a different one answers from call to call."""

    def __init__(self, clients: Sequence[Client], seed: int = 0) -> None:
        self.clients = list(clients)
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Begin another order of clients."""
        self._chance = random.Random(seed)

    def ask(self, question: Question) -> Any:
        return self._chance.choice(self.clients).ask(question)

    def open(self, sale: Sale) -> SaleHandle:
        self.ask(("", "open", (sale,), {}))
        return self.sale(sale.id)

    def sale(self, sale_id: str) -> SaleHandle:
        """A handle whose every call goes to some client of the fleet."""
        return cast("SaleHandle", FleetHandle(self, sale_id))

    def as_shop(self) -> FlashSale:
        """Itself, so that type checkers check what tests do with it."""
        return cast("FlashSale", self)


class FleetHandle:
    """A sale's verbs, and its ledger's."""

    def __init__(self, fleet: Fleet, sale_id: str, part: str = "") -> None:
        self._fleet, self.id, self._part = fleet, sale_id, part

    def __getattr__(self, name: str) -> Any:
        if name == "ledger":
            return FleetHandle(self._fleet, self.id, "ledger.")
        return lambda *args, **options: self._fleet.ask((self.id, self._part + name, args, options))


@contextmanager
def clients_of(url: str, lua_folder: Path | None) -> Iterator[list[Client]]:
    """A client of each shell."""
    with ExitStack() as stack:
        clients = [Client(url, shell, lua_folder) for shell in SHELLS]
        for client in clients:
            stack.callback(client.close)
        yield clients


# --- there --------------------------------------------------------------------------------


def answer(shop: FlashSale, question: Question) -> Any:
    sale_id, verb, args, options = question
    if verb == "open":
        shop.open(*args)
        return None
    target: Any = shop.sale(sale_id)
    *parts, name = verb.split(".")
    for part in parts:
        target = getattr(target, part)
    try:
        return getattr(target, name)(*args, **options)
    except FlashSaleError as error:
        return error


def serve(url: str, shell: str, questions: IO[bytes], answers: IO[bytes]) -> None:
    with connect(shell, url, timeout_ms=CALL_MS) as shop:
        while True:
            try:
                question = pickle.load(questions)
            except EOFError:
                return
            try:
                result = answer(shop, question)
            except FlashSaleError as error:
                result = error
            pickle.dump(result, answers)
            answers.flush()


if __name__ == "__main__":
    if len(sys.argv) > 3:
        use(sys.argv[3])
    serve(sys.argv[1], sys.argv[2], sys.stdin.buffer, sys.stdout.buffer)
