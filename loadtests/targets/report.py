"""What is printed: a table for people, Markdown for a README, JSON for programs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from loadtests.targets.figures import Figure

_FILE_COLUMNS = 140
"""Where nobody says how wide the page is."""

_COLOURS = {"PASS": "green", "MISS": "red", "": ""}


def setup_of(server: str, pinned: bool, **more: str | int | float) -> dict[str, object]:
    """With what it was measured."""
    return {
        "machine": _processor(),
        "cores": os.cpu_count(),
        "pinned": "server core 0, client core 1" if pinned else "no",
        "server": server,
        "python": platform.python_version(),
        **{name: _version(name) for name in ("redis", "hiredis", "uvloop", "msgspec")},
        **more,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def as_json(setup: Mapping[str, object], figures: Sequence[Figure]) -> str:
    rows = []
    for figure in figures:
        row = msgspec.structs.asdict(figure) | {"verdict": figure.verdict}
        row["peers"] = [
            {"name": peer.name, "value": peer.value, "ratio": figure.ratio(peer)}
            for peer in figure.peers
        ]
        rows.append(row)
    return json.dumps({"setup": setup, "figures": rows}, indent=1, ensure_ascii=False)


def as_markdown(setup: Mapping[str, object], figures: Sequence[Figure]) -> str:
    lines = [
        ", ".join(f"{name}: {value}" for name, value in setup.items()) + ".",
        "",
        "| figure | measured | bound | | beside it: figure (ratio) |",
        "|---|---|---|---|---|",
    ]
    for figure in figures:
        beside = "; ".join(_peers(figure))
        if figure.note:
            beside += f"{'. ' if beside else ''}{figure.note}"
        cells = (figure.name, _shown(figure.value, figure.unit), _bound(figure), figure.verdict)
        lines.append(f"| {' | '.join(cells)} | {beside} |")
    return "\n".join(lines)


def print_table(setup: Mapping[str, object], figures: Sequence[Figure]) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=_FILE_COLUMNS)
    console.print(", ".join(f"{name}: {value}" for name, value in setup.items()))
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("figure", max_width=44)
    for name in ("measured", "bound"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("beside it (ratio)")
    for figure in figures:
        beside = _peers(figure) + ([figure.note] if figure.note else [])
        table.add_row(
            figure.name,
            _shown(figure.value, figure.unit),
            _bound(figure),
            f"[{colour}]{figure.verdict}[/]" if (colour := _COLOURS[figure.verdict]) else "",
            "\n".join(beside),
        )
    console.print(table)


def _peers(figure: Figure) -> list[str]:
    return [
        f"{peer.name}: {_shown(peer.value, figure.unit)}"
        + ("" if figure.unit in "×%" else f" ({_number(figure.ratio(peer))} ×)")
        for peer in figure.peers
    ]


def _bound(figure: Figure) -> str:
    if figure.bound is None:
        return ""
    return f"{'>=' if figure.at_least else '<='} {_shown(figure.bound, figure.unit, exact=True)}"


def _shown(value: float, unit: str, *, exact: bool = False) -> str:
    return f"{f'{value:,g}' if exact and value < 1_000 else _number(value)} {unit}".rstrip()


def _number(value: float) -> str:
    """Three significant figures or the whole number, whichever says more."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:#.3g}"
