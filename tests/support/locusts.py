"""Locust runs as their users start them, and a look at the processes they consist of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from support.command import environment

ROOT = Path(__file__).resolve().parents[2]


class Run:
    """A run under way. Every process of it has a temporary folder of its own: `folder`."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process = process
        self.folder = folder

    def processes(self, *words: str) -> list[psutil.Process]:
        """The processes of the run whose command line has these words."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                ours = process.environ().get("TMPDIR") == str(self.folder)
                if ours and set(words) <= set(process.cmdline()):
                    found.append(process)
        return found

    def wait_until_it_sends(self) -> None:
        """Until attempts have been offered."""
        end = time.monotonic() + 40
        while time.monotonic() < end and self.process.poll() is None:
            for path in self.folder.glob("*/progress.json"):
                with suppress(FileNotFoundError):
                    if json.loads(path.read_bytes())["offered"] > 10:
                        return
            time.sleep(0.02)
        raise AssertionError(f"it sends nothing: {self.process.communicate()}")

    def result(self) -> tuple[int, dict[str, Any]]:
        """The exit code and what was printed, once it has ended and left nothing behind."""
        out, err = self.process.communicate(timeout=100)
        self.check_nothing_is_left()
        assert not list(self.folder.iterdir())
        assert "Traceback" not in err
        return self.process.returncode, json.loads(out) if out else {}

    def check_nothing_is_left(self, within_s: float = 0.0) -> None:
        """No process of the run is there any more."""
        end = time.monotonic() + within_s
        while (left := self.processes()) and time.monotonic() < end:
            time.sleep(0.05)
        assert not left


@contextmanager
def started(folder: Path, *args: str, **variables: str) -> Iterator[Run]:
    """Start a run, printing JSON; whatever happens, its processes are gone at the end."""
    own = folder / "tmp"
    own.mkdir()
    path = os.pathsep.join(filter(None, [variables.pop("PYTHONPATH", ""), _python_path()]))
    process = subprocess.Popen(
        [sys.executable, "-m", "loadtests.run", "--json", *args],
        cwd=ROOT,
        env=environment(TMPDIR=str(own), PYTHONPATH=path, **variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    run = Run(process, own)
    try:
        with process:
            yield run
    finally:
        for left in run.processes():
            with suppress(psutil.NoSuchProcess):
                left.kill()


def _python_path() -> str:
    return os.environ.get("PYTHONPATH", "")
