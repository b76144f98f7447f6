"""The command line: `flashsale`. Its packages are an extra, so they are imported late."""

from __future__ import annotations

import sys

from flashsale.cli import streams

_INSTALL = "flashsale: the command line needs more packages: pip install 'flashsale[cli]'"


def main() -> None:
    """Run the command line; without the extra's packages, say how to install them."""
    streams.guard()
    streams.forget_odd_sizes()
    try:
        from flashsale.cli.app import app

        try:
            app(prog_name="flashsale")
        finally:
            sys.stdout.flush()
    except streams.OutputLost as error:
        streams.give_up(error)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("", "flashsale"):
            raise
        sys.stderr.write(f"{_INSTALL} ({error})\n")
        sys.exit(2)
    except KeyboardInterrupt:  # while the modules are being read
        sys.exit(130)
