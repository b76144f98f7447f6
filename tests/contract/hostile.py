"""What must never pass for a quantity, an identifier or a basket."""

from __future__ import annotations

from typing import Any

from flashsale import Line

QUANTITIES: dict[str, Any] = {
    "zero": 0,
    "minus one": -1,
    "2^31": 2**31,
    "2^53+1": 2**53 + 1,
    "2^63": 2**63,
    "-2^63": -(2**63),
    "2^200": 2**200,
    "10^5000, too many digits to print": 10**5_000,
    "one and a half": 1.5,
    "one as a float": 1.0,
    "1e3 as text": "1e3",
    "0x10 as text": "0x10",
    "NaN": float("nan"),
    "infinity": float("inf"),
    "minus infinity": float("-inf"),
    "True": True,
    "False": False,
    "None": None,
    "7 in blanks": " 7 ",
    "an Arabic three": "٣",
    "empty text": "",
    "one as text": "1",
    "bytes": b"1",
    "a list": [1],
    "a complex number": 1j,
}
"""Never a whole number within the bounds of a line."""

IDENTIFIERS: dict[str, Any] = {
    "empty": "",
    "65 characters": "a" * 65,
    "1 MiB": "a" * (1 << 20),
    "NUL": "a\0b",
    "a line end": "a\n",
    "CR LF and a command": "a\r\n*1\r\n$8\r\nFLUSHALL\r\n",
    "braces the wrong way": "}{",
    "another hash tag": "{1111#0}",
    "a colon": "a:b",
    "a hash": "a#1",
    "a bar": "a|b",
    "a semicolon": "a;b",
    "a comma": "a,b",
    "a star": "*",
    "a blank": "a b",
    "a lone surrogate": "a\ud800",
    "NFC": "caf\u00e9",
    "NFD": "cafe\u0301",
    "zero width": "a\u200bb",
    "right to left": "a\u202eb",
    "fullwidth": "\uff41",
    "a digit of another script": "\u0663",
    "Lua": "\"] = nil; redis.call('FLUSHALL') --",
    "percent": "%s%n",
    "bytes": b"ann",
    "an int": 7,
    "a float": 1.5,
    "True": True,
    "None": None,
    "a tuple": ("a", "b:c"),
}
"""Never an identifier."""

BASKETS: dict[str, Any] = {
    "empty mapping": {},
    "empty list": [],
    "33 lines": {f"sku-{n}": 1 for n in range(33)},
    "10,000 lines": {f"sku-{n}": 1 for n in range(10_000)},
    "the same sku twice": [Line("red", 1), Line("red", 1)],
    "text": "red",
    "bytes": b"red",
    "None": None,
    "an int": 1,
    "a set": {"red"},
    "pairs": [("red", 1)],
    "names": ["red"],
    "a mapping in a list": [{"red": 1}],
    "a generator": (line for line in [Line("red")]),
}
"""Never a basket."""

NOTES: dict[str, Any] = {
    "257 bytes": "n" * 257,
    "257 bytes of 3-byte characters": "€" * 86,
    "1 MiB": "n" * (1 << 20),
    "NUL": "a\0b",
    "a lone surrogate": "\udfff",
    "bytes": b"n",
    "None": None,
    "an int": 7,
}
"""Never a note."""
