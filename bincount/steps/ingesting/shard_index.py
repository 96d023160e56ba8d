"""What is in a finished shard, kept in a file beside it."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, astuple, dataclass
from typing import NamedTuple

from bincount.core.files import read_json, write_whole
from bincount.core.manifest import Shard
from bincount.core.rejected import Rejected
from bincount.edge.settings import Settings

log = logging.getLogger(__name__)


class Packed(NamedTuple):
    """One photo in a shard."""

    id: str
    width_px: int
    height_px: int
    size_bytes: int
    etag: str
    offset: int


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """A shard, the photos in it in order, and those that were set aside.

    It is written after the shard: where it is, the shard is finished.
    """

    shard: Shard
    packed: list[Packed]
    rejected: list[Rejected]

    def write(self, settings: Settings, key: str) -> None:
        """Writes it beside the shard of that key."""
        document = {
            "shard": asdict(self.shard),
            "packed": self.packed,
            "rejected": [astuple(one) for one in self.rejected],
        }
        write_whole(settings.shards / f"{key}.json", [json.dumps(document, separators=(",", ":")).encode()])

    @classmethod
    def read(cls, settings: Settings, key: str) -> ShardIndex | None:
        """Reads the index of the shard of that key, None where it is not finished."""
        document = read_json(settings.shards / f"{key}.json")
        if document is None:
            return None
        packed = [Packed(*row) for row in document["packed"]]
        return cls(Shard(**document["shard"]), packed, [Rejected(*row) for row in document["rejected"]])


def is_whole(settings: Settings, shard: Shard) -> bool:
    """Whether a shard's file is byte for byte what was written."""
    path = settings.shards / shard.name
    if not path.is_file() or path.stat().st_size != shard.size_bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == shard.sha256


def drop_shard(settings: Settings, key: str) -> None:
    """Forgets a shard, so that it is written again."""
    (settings.shards / f"{key}.json").unlink(missing_ok=True)
    (settings.shards / f"{key}.tfrecord").unlink(missing_ok=True)
