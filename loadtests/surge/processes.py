"""Locust's processes: started together, watched, and ended together whatever happens.

Each of them holds the reading end of a pipe and ends when the other end is closed, so none
outlives the process that started it, even one that is killed.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from flashsale.embedded.ingredients import HOST, free_port

ROOT = Path(__file__).resolve().parents[2]
LOCUSTFILE = Path("loadtests/locustfile.py")

LIFELINE = "FLASHSALE_LOADTEST_LIFELINE"
"""Names the descriptor whose end of file means that whoever started a process is gone."""

URL = "FLASHSALE_LOADTEST_URL"

_GRACE_S = 3.0
_LOG_TAIL = 2_000
_SAID = "flashsale: error: "


class Locusts:
    """A master and its workers, on 127.0.0.1; use it in a `with` block.

    folder: for their logs. cores: the cores they are bound to, None for any. The URL goes
    through the environment, where other users of the machine cannot read its password.
    """

    def __init__(
        self,
        folder: Path,
        options: Sequence[str],
        *,
        url: str,
        workers: int,
        cores: Sequence[int] | None = None,
    ) -> None:
        self._folder = folder
        self._cores = cores
        self._processes: list[subprocess.Popen[bytes]] = []
        self._environment = _environment() | {URL: url}
        port = str(free_port())
        where = ["--master-bind-host", HOST, "--master-bind-port", port]
        waiting = ["--expect-workers", str(workers), "--expect-workers-max-wait", "60"]
        quietly = ["--headless", "--only-summary"]
        self._commands = [["--master", *where, *waiting, *quietly, *options]]
        worker = ["--worker", "--master-host", HOST, "--master-port", port]
        self._commands += [worker for _ in range(workers)]

    def __enter__(self) -> Self:
        try:
            reading, self._lifeline = os.pipe()
            for number, command in enumerate(self._commands):
                self._processes.append(self._start(number, command, reading))
            os.close(reading)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _start(self, number: int, command: Sequence[str], lifeline: int) -> subprocess.Popen[bytes]:
        with (self._folder / f"{number}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), *command],
                cwd=ROOT,
                env=self._environment | {LIFELINE: str(lifeline)},
                pass_fds=(lifeline,),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C goes to the terminal's process group: we end them ourselves.
                start_new_session=True,
            )
        if self._cores is not None:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(process.pid, self._cores)
        return process

    @property
    def exit_code(self) -> int | None:
        """The master's, once it has ended."""
        return self._processes[0].poll()

    @property
    def pids(self) -> list[int]:
        """The master's and the workers' process ids."""
        return [process.pid for process in self._processes]

    def why(self) -> str:
        """What the master said last, for a run that came to no report."""
        text = (self._folder / "0.log").read_text("utf-8", "replace")
        said = [line.removeprefix(_SAID) for line in text.splitlines() if line.startswith(_SAID)]
        return said[-1] if said else f"Locust's master ended without a report:\n{text[-_LOG_TAIL:]}"

    def stop(self) -> None:
        """End all of them: asked first, then killed. Idempotent."""
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
        until = time.monotonic() + _GRACE_S
        for process in self._processes:
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None

    _lifeline: int | None = None


def _environment() -> dict[str, str]:
    """Ours, without what would set Locust's options, and with the same flashsale to import."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LOCUST_")}
    kept.pop(URL, None)
    return kept
