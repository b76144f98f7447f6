"""Recognises a server that is the wrong one, or spoken to in the wrong way, and says so by name.

Waiting does not help then, so it is a ConfigurationError at once. A failure that may pass (a reset
connection, a server that is starting) never is: it has to be certain. What a failure leaves open is
asked of the server once more, by hand and without any secret, and only until the client has once
found a server to be right: from then on whatever fails is taken to be passing trouble.
"""

from __future__ import annotations

import contextlib
import errno
import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

import redis
import redis.asyncio.connection
import redis.connection

from flashsale.attempts import Attempts
from flashsale.errors import ConfigurationError
from flashsale.faults import refused

LOOK_S: Final = 1.0
"""Seconds for a look, and for the first attempt over TLS: a server without it says nothing."""

BANNER_S: Final = 0.1
"""Seconds for what a server says unasked: protected mode, SSH, SMTP, MySQL."""

_TLS_CLASSES = (redis.connection.SSLConnection, redis.asyncio.connection.SSLConnection)
_BUS_OFFSET: Final = 10_000
_ENOUGH: Final = 65_536
"""Bytes of an answer at which reading it stops."""

_GONE: Final = (errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED)

_NO_TLS_THERE: Final = (
    "HTTP_REQUEST",
    "PACKET_LENGTH_TOO_LONG",
    "RECORD_LAYER_FAILURE",
    "UNKNOWN_PROTOCOL",
    "WRONG_VERSION_NUMBER",
)
"""OpenSSL's reasons when the bytes it reads are not those of TLS."""

_PASSING_ALERTS: Final = (
    "BAD_RECORD_MAC",
    "CLOSE_NOTIFY",
    "DECRYPT",
    "INTERNAL_ERROR",
    "UNEXPECTED",
)
_NO_TLS_IN_COMMON: Final = ("NO_CIPHERS_AVAILABLE", "NO_SHARED_CIPHER", "UNSUPPORTED_PROTOCOL")

WANTS_TLS: Final = "the server expects TLS on this port: use rediss:// (valkeys://), or ssl=True"
HAS_NO_TLS: Final = (
    "there is no TLS on this port of the server: use redis:// (valkey://), or another"
)
PROTECTED: Final = (
    "the server is in protected mode: it takes clients from other machines only with a password "
    "(requirepass, or a user), or with protected-mode no"
)
NOT_REDIS: Final = "what answers there is neither Redis nor Valkey"


class FirstContact:
    """What a client's failures say of its servers, and whether one was found right: `proven`."""

    def __init__(self, kind: type[Any], options: Mapping[str, Any]) -> None:
        self.proven = False
        self._tls = issubclass(kind, _TLS_CLASSES)
        self._can_look = not {"path", "connection_pool"} & set(options)

    def patience(self, attempts: Attempts) -> float:
        """Seconds for the next attempt: over TLS the very first is short, so that we look soon."""
        seconds = attempts.patience()
        return seconds if self.proven or attempts.tries or not self._tls else min(seconds, LOOK_S)

    def check(self, error: Exception, attempts: Attempts) -> None:
        """Raise ConfigurationError if this failed attempt is certain to mean a wrong server."""
        wrong = _told_by(error, self._tls)
        if wrong is None and not self.proven:
            wrong = _told_at_first(error)
        self._refuse(wrong, error, attempts)

    def is_open(self, error: Exception, attempts: Attempts) -> bool:
        """Whether to `look`: after the first attempts of a call, and more and more seldom."""
        if self.proven or not self._can_look or attempts.remaining() <= 0:
            return False
        if attempts.tries & (attempts.tries - 1):  # 0, 1, 2, 4, 8 …
            return False
        return _is_closed(error) or (self._tls and _is_time_out(error))

    def look_s(self, attempts: Attempts) -> float:
        """Seconds for a look: nothing outlasts the call. A slow resolver knows of no bound."""
        return max(0.0, min(LOOK_S, attempts.remaining()))

    def look(self, address: tuple[str, int], error: Exception, attempts: Attempts) -> None:
        """Ask the server what it is, within `look_s`; it blocks, and raises as `check` does."""
        end = time.monotonic() + self.look_s(attempts)
        with contextlib.suppress(OSError):
            wrong = _look_for_clear(address, end) if self._tls else _look_for_tls(address, end)
            self._refuse(wrong, error, attempts)

    @staticmethod
    def _refuse(wrong: str | None, error: Exception, attempts: Attempts) -> None:
        if wrong is not None:
            raise refused(ConfigurationError(wrong), unsure=attempts.unsure) from error


# --- what an exception says -------------------------------------------------------------------


def _told_by(error: Exception, tls: bool) -> str | None:
    """What is certain at any time."""
    if isinstance(error, redis.ResponseError) and str(error).startswith("DENIED"):
        return PROTECTED
    for cause in _chain(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the server's certificate does not verify: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return _told_by_tls(cause)
        if tls and isinstance(cause, (FileNotFoundError, PermissionError, IsADirectoryError)):
            return f"a file of the TLS settings cannot be read: {cause.strerror}"
    return None


def _told_by_tls(error: ssl.SSLError) -> str | None:
    reason = _reason(error)
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return None
    if "ALERT" in reason and not any(word in reason for word in _PASSING_ALERTS):
        return f"the server refuses TLS with this client: {reason}"
    if reason in _NO_TLS_IN_COMMON:
        return f"TLS finds nothing in common with the server: {reason}"
    if getattr(error, "library", None) in ("X509", "PEM", "ASN1") or error.errno is None:
        return f"the TLS settings cannot be used: {reason or error}"
    return None


def _told_at_first(error: Exception) -> str | None:
    """What is certain as long as no server was found right."""
    if isinstance(error, redis.exceptions.InvalidResponse):
        begins = re.search(r'got "(.{1,4})" as', str(error))
        if begins is None:
            return NOT_REDIS
        return WANTS_TLS if begins[1] in ("\\x15", "\x15") else f"{NOT_REDIS}: {_named(begins[1])}"
    for cause in _chain(error):
        if isinstance(cause, ssl.SSLError) and _reason(cause) in _NO_TLS_THERE:
            return HAS_NO_TLS
    return None


def _reason(error: ssl.SSLError) -> str:
    """OpenSSL's word for it; Python's own errors have none, against their type."""
    return getattr(error, "reason", None) or ""


def _named(begins: str) -> str:
    likely = " (an HTTP server?)" if begins in ("<", "H") else ""
    return f"its reply begins with {begins!r}{likely}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _is_closed(error: Exception) -> bool:
    """The server closed the connection, or reset it, and did not refuse it."""
    if not isinstance(error, (redis.ConnectionError, OSError)):
        return False
    text = str(error)
    return any(
        isinstance(cause, (EOFError, ssl.SSLEOFError, ssl.SSLZeroReturnError))
        or (isinstance(cause, OSError) and cause.errno in _GONE)
        for cause in _chain(error)
    ) or any(words in text for words in ("Connection closed", "Connection lost", "is gone"))


def _is_time_out(error: Exception) -> bool:
    return isinstance(error, (redis.TimeoutError, TimeoutError))


# --- what the server says ---------------------------------------------------------------------


def _look_for_clear(address: tuple[str, int], end: float) -> str | None:
    """Of a server that began no TLS: it is spoken to without."""
    reply = _converse(address, end, b"PING\r\n")
    if not reply or reply[:1] == b"\x15":
        return None
    return HAS_NO_TLS if reply[:1] in (b"+", b"-") else _read_banner(reply)


def _look_for_tls(address: tuple[str, int], end: float) -> str | None:
    """Of a server that closed without a word: it is greeted in TLS."""
    reply = _converse(address, end, b"")
    if reply:
        return _read_banner(reply)
    reply = _converse(address, end, _tls_greeting())
    if reply[:2] in (b"\x16\x03", b"\x15\x03"):
        return WANTS_TLS
    host, port = address
    if not reply and port > _BUS_OFFSET:
        nodes = _converse((host, port - _BUS_OFFSET), end, b"CLUSTER NODES\r\n")
        if re.search(rb":%d@%d\S* \S*myself" % (port - _BUS_OFFSET, port), nodes):
            return f"port {port} is the server's cluster bus: use {port - _BUS_OFFSET}"
    return None


def _read_banner(reply: bytes) -> str | None:
    if reply.startswith(b"-DENIED"):
        return PROTECTED
    if reply[:1] in b"+-$*:_,#!=(%~>|":
        return None  # Redis, and another trouble: too many clients, perhaps
    return f"{NOT_REDIS}: {_named(chr(reply[0]))}"


def _converse(address: tuple[str, int], end: float, request: bytes) -> bytes:
    """What a server answers at first, until `end`; b"" if it says nothing, or closes."""
    reply = b""
    connection = socket.create_connection(address, max(end - time.monotonic(), 0.01))
    with connection, contextlib.suppress(OSError):
        if request:
            connection.sendall(request)
        else:
            end = min(end, time.monotonic() + BANNER_S)
        while not _is_whole(reply) and (seconds := end - time.monotonic()) > 0:
            connection.settimeout(seconds)  # which is for the next bytes only, be it one
            received = connection.recv(16_384)
            if not received:
                break
            reply += received
    return reply


def _is_whole(reply: bytes) -> bool:
    """Enough of it to tell what it is."""
    first, line_end, rest = reply.partition(b"\r\n")
    if first[:1] == b"$" and first[1:].isdigit() and line_end:
        return len(rest) >= min(int(first[1:]), _ENOUGH)
    return reply.endswith(b"\n") or reply[:1] in (b"\x15", b"\x16") or len(reply) >= _ENOUGH


def _tls_greeting() -> bytes:
    """The first bytes of any TLS client."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()
