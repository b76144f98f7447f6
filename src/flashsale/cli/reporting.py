"""What every command does alike: connect, say what came of it, and how it failed.

Exit codes: 0 done; 1 refused by the engine, or a check that found something; 2 an error: the
command, the configuration or the server.
"""

from __future__ import annotations

import json as json_text
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
import typer
from rich.console import Console, RenderableType
from rich.text import Text

from flashsale.connecting import URL_VARIABLE
from flashsale.errors import (
    ConfigurationError,
    FlashSaleError,
    InvalidRequest,
    Rejected,
    StoreError,
    StoreUnavailable,
)
from flashsale.models import Answer, Outcome
from flashsale.sync import FlashSale

REFUSED, FAILED = 1, 2

PIPED_WIDTH = 120
"""Columns of output that goes to no terminal: tables need not be squeezed there."""


class Report:
    """Where results go: tables for people, or one JSON object for programs."""

    def __init__(self, *, json: bool = False, debug: bool = False) -> None:
        self.json = json
        self.debug = debug
        self.out = _console(stderr=False)
        self.err = _console(stderr=True)

    @property
    def ascii_only(self) -> bool:
        """Whether standard output can show nothing else."""
        return not self.out.encoding.startswith("utf")

    def give(self, value: object, *shown: RenderableType) -> None:
        """The result: `value` as JSON, or what is shown to people."""
        if self.json:
            print_json(value)
            return
        for renderable in shown:
            self.out.print(renderable)

    def note(self, text: str) -> None:
        """A remark beside the result, on stderr."""
        self.err.print(f"flashsale: {text}", soft_wrap=True)

    def failed(self, error: FlashSaleError | OSError) -> None:
        """One line on stderr, an object on stdout if JSON is wanted, the traceback if asked."""
        if self.debug:
            traceback.print_exception(error)
        message = str(error)
        if isinstance(error, OSError):
            parts = (str(error.filename or ""), error.strerror or message)
            message = ": ".join(filter(None, parts))
        first, *more = message.strip().splitlines() or [type(error).__name__]
        details: dict[str, object] = {"error": type(error).__name__, "message": message}
        word = "error"
        if isinstance(error, Rejected):
            word = "refused"
            details |= {"outcome": error.outcome.value, "meaning": error.outcome.meaning}
            first += "; it may succeed later" if error.outcome.again else ""
        if more and not self.debug:
            first += " (more with --debug)"
        line = Text.assemble("flashsale: ", (word, "bold red"), f": {first}")
        self.err.print(line, soft_wrap=True)
        if self.json:
            print_json(details)


def print_json(value: object) -> None:
    """One object on one line, in ASCII: every encoding and every reader takes that."""
    print_line(json_text.dumps(msgspec.to_builtins(value)))


def print_line(text: str) -> None:
    """A line on standard output, now: what fails there fails while the command still runs."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@contextmanager
def reporting(*, json: bool, debug: bool) -> Iterator[Report]:
    """A report for the body of a command; what this library raises becomes an exit code."""
    report = Report(json=json, debug=debug)
    try:
        yield report
    except FlashSaleError as error:
        report.failed(error)
        raise typer.Exit(REFUSED if isinstance(error, Rejected) else FAILED) from None
    except OSError as error:  # of a file: what a server's connection raises is this library's
        report.failed(error)
        raise typer.Exit(FAILED) from None


@contextmanager
def operating(
    url: str | None, *, json: bool = False, debug: bool = False
) -> Iterator[tuple[Report, FlashSale]]:
    """A report and a client whose server has answered. Never starts a server."""
    with reporting(json=json, debug=debug) as report, connect(url) as shop:
        yield report, shop


def connect(url: str | None) -> FlashSale:
    """Connect, ask the server who it is, and say plainly if it does not answer."""
    if url == "":
        raise ConfigurationError("--url is empty")
    if url is None:
        raise ConfigurationError(f"no server: pass --url redis://HOST:PORT or set {URL_VARIABLE}")
    shop = FlashSale.from_url(url)
    try:
        shop.server()
    except BaseException as error:
        shop.close()
        if isinstance(error, StoreError):
            why = error.__cause__ or error
            raise StoreUnavailable(f"no server answers at {without_secrets(url)}: {why}") from error
        raise
    return shop


def without_secrets(url: str) -> str:
    """A URL that may be shown: without user, password and options."""
    return re.sub(r"(?<=://)[^/]*@", "", url.partition("?")[0])


def done(
    report: Report, answer: Answer, expected: Outcome, told: str = "", **details: object
) -> None:
    """Report a verb on a sale; an outcome other than the expected one is raised as Rejected.

    told: what people read instead of the outcome's meaning. details: more fields of the JSON.
    """
    if answer.outcome is not expected:
        raise Rejected(answer.outcome, f"sale {answer.sale!r}")
    value: Mapping[str, Any] = {
        "sale": answer.sale,
        "outcome": answer.outcome.value,
        "meaning": answer.outcome.meaning,
        "replayed": answer.replayed,
        "at_ms": answer.at_ms,
        **details,
    }
    told = f": {told or answer.outcome.meaning}"
    if answer.replayed:
        told += " (done before; nothing changed now)"
    name = answer.outcome.value.replace("_", " ")
    report.give(value, Text.assemble((answer.sale, "bold"), " ", (name, "green"), told))


def make_sure(question: Callable[[], str], *, yes: bool) -> None:
    """Ask before something that cannot be taken back; end the command unless it is wanted."""
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise InvalidRequest("--yes", "is needed where nobody can be asked: stdin is no terminal")
    if not typer.confirm(question(), err=True):
        typer.echo("flashsale: nothing was done", err=True)
        raise typer.Exit(REFUSED)


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, emoji=False, markup=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPED_WIDTH
    return console
