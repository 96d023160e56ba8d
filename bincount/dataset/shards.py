"""TFRecord shards and their indexes, written and read without TensorFlow.

A record is framed as length (uint64), masked CRC-32C of the length, payload,
masked CRC-32C of the payload, all little-endian
(tensorflow.org/tutorials/load_data/tfrecord). The payload is a serialized
tf.train.Example, so that tf.data reads the shards as they are.
"""

from __future__ import annotations

import contextlib
import functools
import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import google_crc32c

from bincount.dataset.contents import Product, contents_of
from bincount.dataset.manifest import Manifest, Record, Shard
from bincount.dataset.rejection import Rejection
from bincount.errors import DataError
from bincount.files import read_json, rename_damaged, sha256_of_file, write_atomically
from bincount.settings import Settings
from bincount.store.workspace import open_workspace

_LENGTH = struct.Struct("<Q")
_CHECK = struct.Struct("<I")
_BYTES = 2  # wire type of a field with a length prefix


def frame_record(payload: bytes) -> bytes:
    """Frames one payload as a TFRecord."""
    length = _LENGTH.pack(len(payload))
    return b"".join([length, _masked_check(length), payload, _masked_check(payload)])


def read_record(file: BinaryIO, offset: int) -> bytes:
    """Reads the payload of the record that starts at `offset`.

    Raises:
        DataError: If no whole record starts there or a checksum differs.
    """
    file.seek(offset)
    header = file.read(12)
    if len(header) == 12 and header[8:] == _masked_check(header[:8]):
        (length,) = _LENGTH.unpack(header[:8])
        payload, check = file.read(length), file.read(4)
        if len(payload) == length and check == _masked_check(payload):
            return payload
    raise DataError(
        f"{getattr(file, 'name', 'shard')}: a whole record must start at byte {offset}, got a damaged one. "
        "Run ingest again; it rebuilds what is damaged."
    )


def encode_example(*, bin_id: str, recorded: int, image: bytes, metadata: bytes) -> bytes:
    """Serializes one bin as a tf.train.Example.

    Args:
        bin_id: The bin's id; feature `id`.
        recorded: Recorded count >= 0; feature `recorded` (int64).
        image: The photo's bytes as fetched; feature `image`.
        metadata: The metadata file's bytes as fetched; feature `metadata`.
    """
    # Chunks are joined once, at the end: nesting joined bytes would copy the photo five times.
    entries = [
        *_entry(b"id", 1, bin_id.encode()),
        *_entry(b"image", 1, image),
        *_entry(b"metadata", 1, metadata),
        *_entry(b"recorded", 3, _varint(recorded)),
    ]
    return b"".join([_head(1, sum(map(len, entries))), *entries])


def decode_example(payload: bytes) -> dict[str, bytes | int]:
    """Reads what `encode_example` wrote: `id`, `image`, `metadata` (bytes), `recorded` (int)."""
    example: dict[str, bytes | int] = {}
    (features,) = _fields(payload)
    for entry in _fields(features[1]):
        (_, name), (_, feature) = _fields(entry[1])
        ((kind, listed),) = _fields(feature)
        ((_, value),) = _fields(listed)
        example[name.decode()] = _read_varint(value, 0)[0] if kind == 3 else value
    return example


def shard_paths(settings: Settings, shards: Sequence[Shard]) -> list[Path]:
    """Paths of shards of the workspace, on this machine."""
    paths = [settings.shards / shard.name for shard in shards]
    open_workspace(settings).pull(*paths)
    return paths


def read_contents(records: Sequence[Record], shards: Sequence[Path]) -> list[tuple[Product, ...]]:
    """The products on some records.

    Args:
        records: The bins, in the order wanted.
        shards: Path of each of the manifest's shards.

    Raises:
        DataError: If a record is damaged, or a shard is not there.
    """
    contents: list[tuple[Product, ...]] = [()] * len(records)
    order = sorted(range(len(records)), key=lambda row: (records[row].shard, records[row].offset))
    for shard, rows in groupby(order, key=lambda row: records[row].shard):
        with open_shard(shards[shard]) as file:
            for row in rows:
                metadata = decode_example(read_record(file, records[row].offset))["metadata"]
                contents[row] = contents_of(cast(bytes, metadata))
    return contents


def open_shard(path: Path) -> BinaryIO:
    """Opens a shard.

    Raises:
        DataError: If it is not there.
    """
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise DataError(f"shards/{path.name}: must exist, got no such file. Run `bincount ingest` again.") from None


def _masked_check(data: bytes) -> bytes:
    check = google_crc32c.value(data)
    return _CHECK.pack(((check >> 15 | check << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _entry(name: bytes, kind: int, value: bytes) -> tuple[bytes, bytes]:
    """One entry of the map of features: what comes before the value, and the value."""
    listed = _head(1, len(value))
    feature = _head(kind, len(listed) + len(value))
    named = _head(1, len(name)) + name + _head(2, len(feature) + len(listed) + len(value))
    return _head(1, len(named) + len(feature) + len(listed) + len(value)) + named + feature + listed, value


def _head(number: int, length: int) -> bytes:
    """Tag and length of a length-delimited field."""
    return bytes((number << 3 | _BYTES, length)) if length < 0x80 else bytes((number << 3 | _BYTES,)) + _varint(length)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _fields(data: bytes) -> list[tuple[int, bytes]]:
    """Splits a message of length-delimited fields into (number, bytes)."""
    fields, at = [], 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        length, at = _read_varint(data, at)
        fields.append((tag >> 3, data[at : at + length]))
        at += length
    return fields


class PackedPhoto(NamedTuple):
    """One photo in a shard."""

    id: str
    width_px: int
    height_px: int
    size_bytes: int
    etag: str
    offset: int


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """Index of a shard: its photos in order, and the bins that were set aside.

    It is written after the shard: if it exists, the shard is complete.
    """

    shard: Shard
    packed: list[PackedPhoto]
    rejected: list[Rejection]

    def write(self, settings: Settings, key: str) -> None:
        """Writes it beside the shard of that key."""
        document = {
            "shard": asdict(self.shard),
            "packed": self.packed,
            "rejected": [astuple(one) for one in self.rejected],
        }
        write_atomically(settings.shards / f"{key}.json", [json.dumps(document, separators=(",", ":")).encode()])

    def share(self, settings: Settings, key: str) -> None:
        """Shares the shard of that key and its index."""
        open_workspace(settings).push(settings.shards / self.shard.name, settings.shards / f"{key}.json")

    @classmethod
    def read(cls, settings: Settings, key: str) -> ShardIndex | None:
        """Reads the index of the shard of that key, None where it is not finished."""
        path = settings.shards / f"{key}.json"
        open_workspace(settings).pull(path)
        document = read_json(path)
        if document is None:
            return None
        packed = [PackedPhoto(*row) for row in document["packed"]]
        return cls(Shard(**document["shard"]), packed, [Rejection(*row) for row in document["rejected"]])


def is_whole(settings: Settings, shard: Shard) -> bool:
    """True if a shard's file, here or in the bucket of the workspace, has the SHA-256 of the one that was written.

    A copy here that is damaged is set aside where the bucket has a whole one.
    """
    path = settings.shards / shard.name
    with contextlib.suppress(FileNotFoundError):
        stat = path.stat()
        if stat.st_size == shard.size_bytes and _sha256_cached(path, stat.st_mtime_ns, stat.st_ino) == shard.sha256:
            return True
    if open_workspace(settings).sha256_of(path) != shard.sha256:
        return False
    # This machine's copy alone is damaged: what the bucket has stays, and is pulled when it is needed.
    rename_damaged(path)
    return True


# Plan, fetch and join of one process look at the same shards: they are hashed once.
@functools.lru_cache(maxsize=4096)
def _sha256_cached(path: Path, mtime_ns: int, inode: int) -> str:
    return sha256_of_file(path)


def drop_shard(settings: Settings, key: str) -> None:
    """Deletes a shard and its index, so that it is written again."""
    files = [settings.shards / f"{key}.json", settings.shards / f"{key}.tfrecord"]
    open_workspace(settings).delete(*files)
    for file in files:
        file.unlink(missing_ok=True)


def photos_of(settings: Settings, manifest: Manifest, records: Sequence[Record]) -> Iterator[bytes]:
    """Reads the photo of each record, in the records' order.

    Args:
        settings: Names the workspace.
        manifest: Names the shards.
        records: Some of its records; those of one shard are best side by side.

    Raises:
        DataError: If a shard is missing or damaged, or holds another bin at a record's offset.
    """
    for shard, together in groupby(records, key=lambda record: record.shard):
        (path,) = shard_paths(settings, [manifest.shards[shard]])
        try:
            file = path.open("rb")
        except OSError as error:
            raise DataError(f"{path}: must be readable, got {error.strerror}. Run `bincount ingest` again.") from error
        with file:
            for record in together:
                example = decode_example(read_record(file, record.offset))
                if example["id"] != record.id.encode():
                    raise DataError(
                        f"{path.name}: bin {record.id} must start at byte {record.offset}, got {example['id']!r}. "
                        "Run `bincount ingest` again."
                    )
                yield bytes(example["image"])
