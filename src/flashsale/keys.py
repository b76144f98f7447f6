"""Every key of a shard. All share one hash tag, so a script may touch them together.

Identifiers contain no braces and no "#", so two shards can never share a key.
"""

from __future__ import annotations

from msgspec import Struct

PREFIX = "flashsale"


class ShardKeys(Struct, frozen=True):
    """The keys of one shard of a sale; lua/README.md says what each holds."""

    sale: str
    skus: str
    stock: str
    buyers: str
    ledger: str
    deadlines: str
    restocks: str
    readers: str

    @classmethod
    def of(cls, sale_id: str, shard: int = 0) -> ShardKeys:
        """The keys of shard number `shard`; an unsharded sale is shard 0."""
        tag = f"{PREFIX}:{{{sale_id}#{shard}}}"
        return cls(*(f"{tag}:{field}" for field in cls.__struct_fields__))
