"""Just enough of the Redis protocol (RESP2 and 3) to tell one message from the next."""

from __future__ import annotations

import hiredis


def end_of_value(data: bytearray) -> int | None:
    """Where the first RESP value ends; None if it is not complete yet."""
    position, missing = 0, 1
    while missing:
        line_end = data.find(b"\r\n", position)
        if line_end < 0:
            return None
        kind, rest = data[position], data[position + 1 : line_end]
        position = line_end + 2
        missing -= 1
        if kind in b"$=!":
            position += int(rest) + 2 if int(rest) >= 0 else 0
        elif kind in b"*~>":
            missing += max(0, int(rest))
        elif kind in b"%|":  # an attribute (|) stands before the value it belongs to
            missing += 2 * int(rest) + (kind in b"|")
    return position if position <= len(data) else None


def words_of(request: bytes) -> list[bytes]:
    """A request's command and arguments, also one in the protocol's inline form."""
    if not request.startswith(b"*"):
        return request.split()
    reader = hiredis.Reader()
    reader.feed(request)
    words: list[bytes] = reader.gets()
    return words
