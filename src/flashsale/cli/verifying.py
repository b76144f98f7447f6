"""The command that checks a draw's record. It needs no server."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from flashsale.beacons import BEACONS, can_check_signatures, check_signature
from flashsale.cli import words
from flashsale.cli.options import Debug, Json
from flashsale.cli.reporting import REFUSED, Report, reporting
from flashsale.cli.tables import plain_table
from flashsale.errors import InvalidRequest
from flashsale.verify import RECEIPT_LIMITS, InvalidRecord, Place, Verification, find, load, verify

_WINDOWS_SHOWN = 12
UNCHECKED = 3
"""The exit code of a record of which nothing is wrong, but not all could be checked."""


def verify_record(
    record: Annotated[
        str, typer.Argument(metavar="RECORD.json", help="The record's file; - for stdin.")
    ],
    receipt: Annotated[
        str | None,
        typer.Option("--receipt", metavar="HEX", help="The receipt that this buyer was given."),
    ] = None,
    buyer: Annotated[
        str | None,
        typer.Option("--buyer", metavar="ID", help="Tell what became of this buyer."),
    ] = None,
    digest: Annotated[
        str | None,
        typer.Option("--digest", metavar="HEX", help="The digest you saw published."),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Check the record of a draw: repeat all of it, and say what no record can prove.

    It needs no server and takes nothing on trust. The same checks are in one file that anybody
    may copy and run alone: python verify.py RECORD.json, but for a beacon's signature, which takes
    the extra drand. With --buyer and --receipt it finds your own entry. Exit code 0 if the record
    verifies, 1 if it does not or does not have the buyer, 2 if there is nothing to check, 3 if
    nothing is wrong but not all could be checked.
    """
    with reporting(json=json, debug=debug) as report, _without_collecting():
        if (buyer is None) != (receipt is None):
            missing = "--buyer" if buyer is None else "--receipt"
            raise InvalidRequest(missing, "must be given: --buyer and --receipt go together")
        read = _load(record)
        with report.err.status("drawing again"):
            checker = check_signature if can_check_signatures() else None
            result = verify(read, published_digest=digest, check_signature=checker)
            sought = receipt is not None and result.verdict != "wrong"
            place = _find(read, buyer, receipt) if sought else None
        whole = any(check.name == "seal" for check in result.checks)  # it was read to the end
        figures = _figures(read) if whole else {}
        value = {
            "ok": result.ok,
            "verdict": result.verdict,
            "final": result.final,
            "void": bool(figures) and figures["void"] is not None,
            **{name: figures.get(name) for name in ("sale", "cue")},
            "checks": [asdict(check) for check in result.checks],
            "limits": list(result.limits),
            "figures": figures,
            "receipt": asdict(place) if place else None,
        }
        report.give(value, _shown(report, result, figures))
        if place and not json:
            report.out.print(_place_view(place))
            report.out.print(_list_of(RECEIPT_LIMITS))
        if sought and not place:
            report.note(f"the record has no entrant {buyer!r} with the receipt {receipt!r}")
        if result.verdict == "wrong" or (sought and not place):
            raise typer.Exit(REFUSED)
        if result.verdict == "unchecked":
            if any(check.name == "beacon" and check.ok is None for check in result.checks):
                report.note("to check a beacon's signature, install flashsale[drand]")
            raise typer.Exit(UNCHECKED)


@contextmanager
def _without_collecting() -> Iterator[None]:
    """A million entrants are no garbage; looking at them again and again takes half the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _load(path: str) -> object:
    if path == "-" and sys.stdin is None:
        raise InvalidRequest(path, "standard input is closed")
    try:
        if path == "-":
            return load(sys.stdin.buffer.read())
        with open(path, "rb") as file:
            return load(file.read())
    except (OSError, ValueError) as error:  # ValueError: a name with NUL
        if isinstance(error, InvalidRecord):
            raise InvalidRequest(path, f"is no record: {error}") from None
        raise InvalidRequest(path, getattr(error, "strerror", None) or str(error)) from None


def _find(read: object, buyer: str | None, receipt: str | None) -> Place | None:
    if buyer is None or receipt is None:
        return None
    try:
        return find(read, buyer, receipt)
    except InvalidRecord as error:
        field = "--buyer" if error.field == "the buyer" else "--receipt"
        raise InvalidRequest(field, error.rule) from None


def _figures(read: Any) -> dict[str, Any]:
    """What the draw was, from a record whose structure was checked."""
    cue, drawn, awarded = read["cue"], read["drawn"], read["awarded"]
    winners = {entrant for entrant, _ in drawn}
    windows: dict[int, dict[str, int]] = {}
    for group in read["entrants"]:
        row = windows.setdefault(group["window"], {"entrants": 0, "winners": 0})
        row["entrants"] += len(group["who"])
        row["winners"] += sum(entrant in winners for entrant in group["who"])
    held = [item[1] == "held" for item in awarded]
    return {
        "sale": cue["sale"],
        "cue": cue["id"],
        "void": read["void"],
        "stock": cue["stock"],
        "window_ms": cue["window_ms"],
        "draw": _draw_of(cue),
        "entrants": sum(row["entrants"] for row in windows.values()),
        "entrants_complete": read["entrants_complete"],
        "capped": len(read["capped"]),
        "drawn": len(drawn),
        "held": sum(held[: len(drawn)]),
        "promoted": sum(held[len(drawn) :]),
        "returned": read["returned"],
        "windows": {str(window): row for window, row in sorted(windows.items())},
    }


def _draw_of(cue: dict[str, Any]) -> str:
    source = cue["entropy_source"]
    if not source:
        return "committed"
    known = "" if source in BEACONS else ", an unknown beacon: no more than a committed draw"
    return f"round {cue['entropy_round']} of {source}{known}"


# --- for people ---------------------------------------------------------------------------------


def _shown(report: Report, result: Verification, figures: dict[str, Any]) -> RenderableType:
    verdict = {
        "wrong": Text("does not verify", "bold red"),
        "unchecked": Text("nothing wrong, but not all was checked", "bold yellow"),
        "verifies": Text("verifies", "bold green"),
    }[result.verdict]
    if result.ok and figures["void"] is not None:
        verdict = Text("verifies: the cue is void", "bold yellow")
    name = f"cue {figures['cue']} of sale {figures['sale']}" if figures else "the record"
    unfinished = "" if result.final or result.verdict == "wrong" else ": not final yet"
    heading = Text.assemble((name, "bold"), "  ", verdict, (unfinished, "bold yellow"))
    parts: list[RenderableType] = [heading]
    parts.append(Padding(_checks_table(result, ascii_only=report.ascii_only), (1, 0, 0, 0)))
    if result.verdict != "wrong" and figures["void"] is None:
        parts += [Padding(_summary(figures), (1, 0, 0, 0)), _windows_table(figures)]
    if result.limits:
        parts.append(Padding(Text("What the record cannot prove", "bold"), (1, 0, 0, 0)))
        parts.append(_list_of(result.limits))
    return Group(*parts)


def _checks_table(result: Verification, *, ascii_only: bool) -> Table:
    right, wrong = ("ok", "WRONG") if ascii_only else ("✓", "✗")
    marks = {
        True: Text(right, "green"),
        False: Text(wrong, "bold red"),
        None: Text("?", "bold yellow"),
    }
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in result.checks:
        style = {True: "", False: "red", None: "yellow"}[check.ok]
        table.add_row(
            marks[check.ok], Text(check.name, style or "bold"), Text(check.message, style)
        )
    return table


def _summary(figures: dict[str, Any]) -> Text:
    kept = "" if figures["entrants_complete"] else " kept (the best of more)"
    told = f"{figures['entrants']:,} entrants{kept} for {words.lines(figures['stock'])}: "
    told += f"{figures['drawn']:,} drawn, {figures['held']:,} of them awarded, "
    told += f"{figures['promoted']:,} moved up"
    if figures["capped"]:
        told += f", {figures['capped']:,} left out for their fingerprint"
    return Text(f"{told}; the draw: {figures['draw']}")


def _windows_table(figures: dict[str, Any]) -> Table:
    """The chance of each window's entrants; an incomplete record cannot tell it."""
    numbers = ["window", "from", "entrants", "winners", "share that won"]
    table = plain_table(*numbers, numbers=numbers)
    rows = list(figures["windows"].items())
    for window, row in rows[:_WINDOWS_SHOWN]:
        start = words.duration(int(window) * figures["window_ms"])
        won = words.share(row["winners"], row["entrants"]) if figures["entrants_complete"] else "?"
        table.add_row(window, start, f"{row['entrants']:,}", f"{row['winners']:,}", won)
    if len(rows) > _WINDOWS_SHOWN:
        table.add_row(f"{len(rows) - _WINDOWS_SHOWN:,} more", style="dim")
    return table


def _list_of(sentences: tuple[str, ...]) -> Table:
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for sentence in sentences:
        table.add_row("-", Text(sentence))
    return table


def _place_view(place: Place) -> RenderableType:
    if place.outcome == "capped":
        told = "left out at the freeze: others had used up what the fingerprint may have"
        return Padding(Text.assemble(("your entry", "bold"), f"  {told}"), (1, 0, 0, 0))
    told = f"place {place.place:,} of {place.of:,}, window {place.window}, "
    style = "bold green" if place.outcome == "held" else "bold yellow"
    outcome = "not drawn" if place.outcome == "not_drawn" else place.outcome.replace("_", " ")
    got = f": {words.lines(dict(place.lines))}" if place.lines else ""
    wish = words.lines({sku: units for sku, units, _ in place.wish})
    line = Text.assemble(("your entry", "bold"), f"  {told}", (outcome, style), got)
    return Padding(Group(line, Text(f"            wished: {wish}")), (1, 0, 0, 0))
