"""A report as a picture, for a page or a mail."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from flashsale.errors import InvalidRequest

if TYPE_CHECKING:
    from pathlib import Path

WIDTH = 100


def check_picture_path(path: Path) -> Path:
    """Where a picture can be written; told before the run, not after it."""
    if path.suffix != ".svg":
        raise InvalidRequest("--svg", f"must end in .svg, not {path.name!r}")
    if not path.parent.is_dir():
        raise InvalidRequest("--svg", f"must be in a folder that exists, not {str(path.parent)!r}")
    return path


def save_svg(renderable: Any, path: Path, *, title: str) -> None:
    """Write what a terminal would show as an SVG file."""
    from rich.console import Console

    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(renderable)
    path.write_text(console.export_svg(title=title), "utf-8")
