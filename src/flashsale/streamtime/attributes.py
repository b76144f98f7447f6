"""Attribute lists of HLS tags (RFC 8216, 4.2)."""

from __future__ import annotations

import re

from flashsale.errors import InvalidRequest
from flashsale.limits import shown

_ATTRIBUTE = re.compile(r'\s*([A-Z0-9-]+)=("[^"\r\n]*"|[^",\s]+)\s*(?:,|$)')


def parse_attributes(field: str, text: str) -> dict[str, str]:
    """Names and values, the quotes of quoted strings taken off; a name may stand there once."""
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        match = _ATTRIBUTE.match(text, at)
        if match is None:
            raise InvalidRequest(field, f"must be a list NAME=value, …; {shown(text[at:])} is not")
        name, value = match[1], match[2]
        if name in found:
            raise InvalidRequest(field, f"must name {name} once")
        found[name] = value[1:-1] if value.startswith('"') else value
        at = match.end()
    return found


def quoted(field: str, value: str) -> str:
    """A quoted string: it cannot hold a quote or a line break, and there is no escape for them."""
    if re.search(r'["\r\n]', value):
        raise InvalidRequest(field, f"must have no quote and no line break, not {shown(value)}")
    return f'"{value}"'
