"""TFRecord shards, written and read without TensorFlow.

A record is framed as length (uint64), masked CRC-32C of the length, payload,
masked CRC-32C of the payload, all little-endian
(tensorflow.org/tutorials/load_data/tfrecord). The payload is a serialized
tf.train.Example, so that tf.data reads the shards as they are.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

import google_crc32c

from bincount.core.errors import DataError

_LENGTH = struct.Struct("<Q")
_CHECK = struct.Struct("<I")
_BYTES = 2  # wire type of a field that says its length


def frame(payload: bytes) -> bytes:
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
