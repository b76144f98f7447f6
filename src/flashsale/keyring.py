"""The secrets of a shop: named keys, of which the newest is used and all are known."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import force_setattr

from flashsale import limits
from flashsale.errors import ConfigurationError

SECRET_MIN = 32
"""Bytes of a secret, at least."""


SECRET_MAX = 1_024
"""And at most."""


class Key(Struct, frozen=True):
    """A secret of 32 to 1,024 bytes and its name, which is published with what it made.

    `secrets.token_bytes(32)` makes a good one. Keep it where no buyer can read it, the same in
    every process of a shop, and as long as anything made with it lives. If the key that a waiting
    room was opened with is lost before the room opens, nobody who joined before can be placed, and
    nobody is called. A room's seed follows from the key and the sale: whoever has the key could
    choose when to join.
    """

    id: str
    secret: bytes

    def __post_init__(self) -> None:
        force_setattr(self, "id", limits.check_id("id of a key", self.id))
        if not isinstance(self.secret, bytes) or not SECRET_MIN <= len(self.secret) <= SECRET_MAX:
            raise ConfigurationError(f"secret of key {self.id!r}: must be 32 to 1,024 bytes")
        force_setattr(self, "secret", memoryview(self.secret).tobytes())

    def __repr__(self) -> str:
        return f"Key({self.id!r}, secret=…)"

    @classmethod
    def random(cls, key_id: str = "random") -> Key:
        """A key that no other process has."""
        return cls(key_id, secrets.token_bytes(SECRET_MIN))


class Keyring:
    """Keys, newest first: the first makes, every one is recognised by its id."""

    def __init__(self, keys: Sequence[Key], name: str = "keys") -> None:
        if isinstance(keys, (str, bytes, Key)) or not all(isinstance(key, Key) for key in keys):
            raise ConfigurationError(f"{name}: must be a sequence of Key, the newest first")
        if len({key.id for key in keys}) != len(keys):
            raise ConfigurationError(f"{name}: every key needs an id of its own")
        self._name = name
        self._keys = {key.id: key for key in keys}

    def newest(self) -> Key:
        """The key to make something with; ConfigurationError if there is none."""
        if not self._keys:
            raise ConfigurationError(
                f"{self._name}: at least one Key is needed for this, the same in every process"
            )
        return next(iter(self._keys.values()))

    def find(self, key_id: str) -> Key | None:
        """The key of this id, or None if it is not here."""
        return self._keys.get(key_id)

    def named(self, key_id: str) -> Key:
        """The key that something was made with; ConfigurationError if it is not here."""
        if key_id not in self._keys:
            raise ConfigurationError(f"{self._name}: the key {key_id!r} is needed for this")
        return self._keys[key_id]
