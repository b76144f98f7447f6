"""Values of HLS tags: numbers and durations that are needed, and a look at some that are not."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from flashsale.errors import InvalidRequest
from flashsale.limits import shown
from flashsale.streamtime.attributes import parse_attributes

_SECONDS_MAX = 86_400
_SECONDS = re.compile(r"\d{1,9}(?:\.\d{0,40})?|\.\d{1,40}", re.ASCII)
_QUOTED = re.compile(r'"[^"]*"')
_INTEGER = re.compile(r"\d{1,20}", re.ASCII)

MULTIVARIANT = frozenset({"#EXT-X-STREAM-INF", "#EXT-X-I-FRAME-STREAM-INF", "#EXT-X-MEDIA"})
"""Tags that only a multivariant playlist has."""


def read_number(name: str, value: str, most: int) -> int:
    """A whole number from 0 on; InvalidRequest if it is none or above the most there may be."""
    if not _INTEGER.fullmatch(value) or int(value) > most:
        rule = f"must be a playlist of RFC 8216; {name} is a number up to {most}, not"
        raise InvalidRequest("playlist", f"{rule} {shown(value)}")
    return int(value)


@functools.lru_cache(maxsize=1_024)
def read_us(seconds: str) -> int:
    """Seconds as a playlist writes them, from 0 to 86,400, as microseconds; or InvalidRequest."""
    if not _SECONDS.fullmatch(seconds) or float(seconds) > _SECONDS_MAX:
        raise InvalidRequest("playlist", f"must have durations in seconds, not {shown(seconds)}")
    return round(float(seconds) * 1_000_000)


def read_unquoted(attributes: str, name: str) -> str:
    """The value of one attribute that is no quoted string, whatever else is in the list; or ""."""
    found = re.search(rf"(?:^|,)\s*{name}=([^,\s]*)", _QUOTED.sub("", attributes))
    return found[1] if found else ""


def _is_list(value: str) -> bool:
    try:
        return bool(parse_attributes("list", value))
    except InvalidRequest:
        return False


def _fits(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern)
    return lambda value: compiled.fullmatch(value) is not None


UNNEEDED: Mapping[str, Callable[[str], bool]] = MappingProxyType(
    {
        "#EXT-X-VERSION": _fits(r"\d+"),
        "#EXT-X-TARGETDURATION": _fits(r"\d+"),
        "#EXT-X-BITRATE": _fits(r"\d+"),
        "#EXT-X-BYTERANGE": _fits(r"\d+(@\d+)?"),
        "#EXT-X-PLAYLIST-TYPE": _fits("EVENT|VOD"),
        "#EXT-X-ALLOW-CACHE": _fits("YES|NO"),
        "#EXT-X-KEY": _is_list,
        "#EXT-X-MAP": _is_list,
        "#EXT-X-START": _is_list,
        "#EXT-X-DEFINE": _is_list,
        "#EXT-X-PART-INF": _is_list,
        "#EXT-X-SERVER-CONTROL": _is_list,
        "#EXT-X-RENDITION-REPORT": _is_list,
    }
)
"""Tags the timeline does not need, each with a test of its value: some are worth a note."""
