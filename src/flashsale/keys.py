"""Every key of a shard. All share one hash tag, so a script may touch them together.

Identifiers contain no braces and no "#", so two shards can never share a key.
"""

from __future__ import annotations

from functools import lru_cache

from msgspec import Struct

PREFIX = "flashsale"
SEALED = "flashsale-sealed"
"""Of what nobody may read who only looks on: an ACL's patterns can leave nothing out."""


def _tag(sale_id: str, shard: int, prefix: str = PREFIX) -> str:
    return f"{prefix}:{{{sale_id}#{shard}}}"


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
    cues: str
    lags: str
    room: str
    admitted: str
    vacant: str
    caps: str

    @classmethod
    def of(cls, sale_id: str, shard: int = 0) -> ShardKeys:
        """The keys of shard number `shard`; an unsharded sale is shard 0."""
        return _shard_keys(sale_id, shard)


@lru_cache(maxsize=256)  # every call asks, most of them for a sale that was asked for before
def _shard_keys(sale_id: str, shard: int) -> ShardKeys:
    tag = _tag(sale_id, shard)
    return ShardKeys(*(f"{tag}:{field}" for field in ShardKeys.__struct_fields__))


def places_key(sale_id: str, number: int, shard: int = 0) -> str:
    """The key of one of the hashes over which a waiting room's places are spread, from 0."""
    return f"{_tag(sale_id, shard)}:places:{number}"


class CueKeys(Struct, frozen=True):
    """The keys of one cue, in the shard that keeps its stock; all but the first are sealed."""

    cue: str
    secrets: str
    entries: str
    best: str
    awarded: str

    @classmethod
    def of(cls, sale_id: str, cue_id: str, shard: int = 0) -> CueKeys:
        """The keys of a cue of shard number `shard`."""
        sealed = f"{_tag(sale_id, shard, SEALED)}:cue:{cue_id}"
        names = cls.__struct_fields__[1:]
        return cls(f"{_tag(sale_id, shard)}:cue:{cue_id}", *(f"{sealed}:{name}" for name in names))
