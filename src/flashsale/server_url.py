"""A server's URL: checked before redis-py sees it, so that a slip of the pen is told at once.

redis-py drops what it cannot read, so a password with an unencoded "/" ends in a connection to
localhost, and a misspelt option in a TypeError or in nothing. What is refused here is named by its
rule; no error has any text of the URL in it, nor a cause that has, for it may be a secret's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, unquote, unquote_to_bytes, urlsplit

from flashsale.errors import ConfigurationError

_SCHEMES: Final = {
    "redis": "redis",
    "rediss": "rediss",
    "unix": "unix",
    "valkey": "redis",
    "valkeys": "rediss",
}
"""What a URL may begin with, and what redis-py calls it."""

_DATABASE: Final = re.compile(r"/?|/[0-9]{1,9}/?")
_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SECRET: Final = ("password", "ssl_password")

Rule = Callable[[str], str | None]
"""What an option's value must be, if it is not that."""


def _text(value: str) -> str | None:
    return None if value else "must not be empty"


def _number(least: int, most: int) -> Rule:
    def rule(value: str) -> str | None:
        right = value.isascii() and value.isdigit() and least <= int(value[:10]) <= most
        return None if right else f"must be a whole number from {least} to {most:,}"

    return rule


def _seconds(value: str) -> str | None:
    try:
        right = 0 < float(value) < math.inf
    except ValueError:
        right = False
    return None if right else "must be seconds, more than 0"


def _one_of(*words: str) -> Rule:
    return lambda value: None if value in words else f"must be one of {', '.join(words)}"


def _flag(value: str) -> str | None:
    known = ("1", "true", "t", "yes", "y", "0", "false", "f", "no", "n")
    return None if value.lower() in known else "must be true or false"


def _file(value: str) -> str | None:
    return None if Path(value).is_file() else "names no file"


def _folder(value: str) -> str | None:
    return None if Path(value).is_dir() else "names no folder"


ANYWHERE: Final[dict[str, Rule]] = {
    "client_name": _text,
    "db": _number(0, 999_999_999),
    "health_check_interval": _number(0, 86_400),
    "max_connections": _number(1, 10_000),
    "password": _text,
    "protocol": _one_of("2", "3"),
    "socket_read_size": _number(1, 1 << 30),
    "username": _text,
    # Taken, because other libraries may share the URL, and without effect: every call has its
    # own time-out, is tried again by itself and reads bytes.
    "decode_responses": _flag,
    "retry_on_timeout": _flag,
    "socket_connect_timeout": _seconds,
    "socket_timeout": _seconds,
}
"""Options that every URL may have."""

TCP: Final[dict[str, Rule]] = {"socket_keepalive": _flag}
"""Options of what is not a unix socket."""

TLS: Final[dict[str, Rule]] = {
    "ssl_ca_certs": _file,
    "ssl_ca_data": _text,
    "ssl_ca_path": _folder,
    "ssl_cert_reqs": _one_of("none", "optional", "required"),
    "ssl_certfile": _file,
    "ssl_check_hostname": _flag,
    "ssl_ciphers": _text,
    "ssl_keyfile": _file,
    "ssl_min_version": _one_of("771", "772"),
    "ssl_password": _text,
}
"""Options of rediss:// and valkeys:// alone; 771 and 772 are TLS 1.2 and 1.3."""


def checked_url(url: object) -> str:
    """The URL as redis-py is to be given it; ConfigurationError that names the rule it breaks.

    `redis://`, `rediss://`, `unix://`, `valkey://` and `valkeys://` in any case; a user and
    password, the number of a database and the options of `ANYWHERE`, `TCP` and `TLS`.
    """
    if not isinstance(url, str):
        raise ConfigurationError(f"the server's URL: must be a str, not {type(url).__name__}")
    url = str.__str__(url)
    scheme, found, rest = url.partition("://")
    known = _SCHEMES.get(scheme.lower())
    if known is None or not found:
        raise _refused("must begin with redis://, rediss://, unix://, valkey:// or valkeys://")
    normal = f"{known}://{rest}"
    for rule in _broken_rules(normal, rest):
        raise _refused(rule)
    return normal


def label(name: str, others: object) -> str:
    """How an option that is not known is called in an error, beside these other options.

    Beside a password it may be a part of it, after an unencoded "&".
    """
    hidden = isinstance(others, (dict, list, set, tuple)) and any(key in others for key in _SECRET)
    if hidden or not re.fullmatch("[a-z_]*", name):  # no option of redis-py is called otherwise
        return "one whose name is not shown (it may be a part of the password)"
    return name


def _refused(rule: str) -> ConfigurationError:
    return ConfigurationError(f"the server's URL: {rule}")


def _broken_rules(url: str, rest: str) -> Iterator[str]:
    """What is wrong with it, the first of which counts: each rule relies on those before it."""
    if any(char <= " " or char == "\x7f" or char.isspace() for char in rest):
        yield "has a space, line end or control character: write it as %XX"
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if "#" in rest or authority.count("@") > 1 or "@" in rest[len(authority) :]:
        yield 'has an unencoded "@", "/", "?" or "#": write %40, %2F, %3F, %23'
    if _PERCENT.search(rest) or not _is_utf8(rest):
        yield 'has a "%" that does not begin the %XX of UTF-8: write "%" as %25'
    parts = _split(url)
    if parts is None:
        yield "must look like redis://user:password@host:port/db, special characters as %XX"
        return
    is_unix = parts.scheme == "unix"
    yield from _wrong_socket(parts, authority) if is_unix else _wrong_host(parts, authority)
    allowed = ANYWHERE if is_unix else ANYWHERE | TCP
    yield from _wrong_options(parts, allowed | (TLS if parts.scheme == "rediss" else {}))


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        return parts if parts.port != 0 else None
    except ValueError:  # its text may have a part of the password in it
        return None


def _is_utf8(text: str) -> bool:
    try:
        unquote_to_bytes(text).decode()
    except UnicodeError:
        return False
    return True


def _wrong_socket(parts: SplitResult, authority: str) -> Iterator[str]:
    if authority.rpartition("@")[2]:
        yield "a socket's path has three slashes before it (unix:///run/valkey.sock), and no host"
    if len(parts.path) < 2:
        yield "unix:// needs the path of a socket"


def _wrong_host(parts: SplitResult, authority: str) -> Iterator[str]:
    if "@" in authority and not parts.hostname:
        yield "has a user or password and no host"
    elif wrong := host_rule(unquote(parts.hostname or "")):
        yield f"its host {wrong}"
    if not _DATABASE.fullmatch(parts.path):
        yield "what follows the host must be the number of a database"


def host_rule(host: str) -> str | None:
    """What a server's name or address must be, if it is not that."""
    if any(char <= " " or char == "\x7f" or char.isspace() for char in host):
        return "must have no space, line end or control character"
    try:
        host.encode("idna")  # as Python does to look it up, with a UnicodeError of its own
    except UnicodeError:
        return "must be a name of DNS: labels of 1 to 63 characters, with a dot between two"
    return None


def _wrong_options(parts: SplitResult, allowed: dict[str, Rule]) -> Iterator[str]:
    fields = [field.partition("=") for field in parts.query.split("&")] if parts.query else []
    names = [unquote(name) for name, _, _ in fields]
    given = {"username": parts.username, "password": parts.password}
    if parts.scheme != "unix":
        given["db"] = parts.path.strip("/")
    for name, (_, _, value) in zip(names, fields, strict=True):
        if name not in allowed:
            everything = name in ANYWHERE | TCP | TLS
            why = "is not for this scheme" if everything else "is not known"
            yield f"option {name if everything else label(name, names)} {why}"
        elif names.count(name) > 1 or given.get(name):
            yield f"option {name} is given twice"
        elif "+" in value:
            yield f'option {name} has a "+": write %2B, and a space as %20'
        elif rule := allowed[name](unquote(value)):
            yield f"option {name} {rule}"
