"""The command line: `flashsale`. Its packages are an extra, so they are imported late."""

from __future__ import annotations

import sys
from contextlib import suppress

_INSTALL = "flashsale: the command line needs more packages: pip install 'flashsale[cli]'"


def main() -> None:
    """Run the command line; without the extra's packages, say how to install them."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):  # closed, or not a real stream
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        from flashsale.cli.app import app

        app(prog_name="flashsale")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("", "flashsale"):
            raise
        sys.stderr.write(f"{_INSTALL} ({error})\n")
        sys.exit(2)
    except KeyboardInterrupt:  # while the modules are being read
        sys.exit(130)
