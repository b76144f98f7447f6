"""Tickets of the waiting room, signed: a number that only its buyer, in its sale, can use.

A ticket is URL-safe base64 of: a format byte (1), the length of the key's id and the id, the number
(8 bytes), when it was issued and when it expires (6 bytes each, milliseconds, big-endian), and 16
bytes of HMAC-SHA256 over all of that, the sale and the buyer, each preceded by its length. Sale and
buyer are not in it: who presents a ticket says whose it is. HMAC comes with Python, so the core
needs no library for it.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import struct
from functools import lru_cache

from msgspec import Struct

from flashsale.keyring import Key, Keyring
from flashsale.limits import plain_text

_FORMAT = 1
_BODY = struct.Struct(">QHIHI")
_MAC = 16
_TEXT_MAX = 192
_DOMAIN = b"flashsale.ticket"
_BLOCK = hashlib.sha256().block_size
_TO_URL, _FROM_URL = bytes.maketrans(b"+/", b"-_"), bytes.maketrans(b"-_", b"+/")


class Ticket(Struct, frozen=True):
    """What a ticket says: its number, when it was issued, and from when on it is worth nothing."""

    number: int
    issued_ms: int
    expires_ms: int


def sign_ticket(key: Key, sale: str, buyer: str, ticket: Ticket) -> str:
    """The text of a ticket, letters, digits, "_" and "-" only."""
    issued, expires = ticket.issued_ms, ticket.expires_ms
    body = _BODY.pack(
        ticket.number, issued >> 32, issued & 0xFFFFFFFF, expires >> 32, expires & 0xFFFFFFFF
    )
    name = key.id.encode()
    told = bytes((_FORMAT, len(name))) + name + body
    return _as_text(told + _mac(key, told, sale, buyer))


def read_ticket(keyring: Keyring, sale: str, buyer: str, text: object) -> Ticket | str:
    """What a ticket says if it is this buyer's for this sale; else the rule it breaks."""
    if not isinstance(text, str) or not 1 <= len(text) <= _TEXT_MAX:
        return f"must be a str of 1 to {_TEXT_MAX} characters"
    text = plain_text(text)
    if text.endswith("="):  # no ticket has padding, and Pythons differ in how much of it they take
        return "must be a ticket as it was given, unchanged"
    try:
        padded = text.encode("ascii").translate(_FROM_URL) + b"=" * (-len(text) % 4)
        raw = binascii.a2b_base64(padded, strict_mode=True)
    except (binascii.Error, ValueError):
        return "must be a ticket as it was given: this is not base64"
    if _as_text(raw) != text:
        return "must be a ticket as it was given, unchanged"
    length = raw[1] if len(raw) > 1 else 0
    if len(raw) != 2 + length + _BODY.size + _MAC or raw[0] != _FORMAT:
        return "must be a whole ticket of format 1"
    told, mac = raw[:-_MAC], raw[-_MAC:]
    key = keyring.find(told[2 : 2 + length].decode(errors="replace"))
    if key is None:
        return "must be signed with a key that is known here"
    if not hmac.compare_digest(mac, _mac(key, told, sale, buyer)):
        return "must be this buyer's own, for this sale, unchanged"
    number, issued_high, issued, expires_high, expires = _BODY.unpack_from(told, 2 + length)
    return Ticket(number, issued_high << 32 | issued, expires_high << 32 | expires)


def _as_text(raw: bytes) -> str:
    return binascii.b2a_base64(raw, newline=False).translate(_TO_URL).rstrip(b"=").decode()


def _mac(key: Key, told: bytes, sale: str, buyer: str) -> bytes:
    names = (sale.encode(), buyer.encode())
    parts = b"".join([len(name).to_bytes(4, "big") + name for name in names])
    inner, outer = (begun.copy() for begun in _begun(key.secret))
    inner.update(told + parts)
    outer.update(inner.digest())
    return outer.digest()[:_MAC]


@lru_cache(maxsize=64)
def _begun(secret: bytes) -> tuple[hashlib._Hash, hashlib._Hash]:
    """HMAC-SHA256 (RFC 2104) as far as it depends on the key alone, and the domain.

    `hmac.digest`, which begins anew for every ticket, costs more than twice as much.
    """
    short = secret if len(secret) <= _BLOCK else hashlib.sha256(secret).digest()
    padded = short.ljust(_BLOCK, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded) + _DOMAIN)
    return inner, hashlib.sha256(bytes(byte ^ 0x5C for byte in padded))
