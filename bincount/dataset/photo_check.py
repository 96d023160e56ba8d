"""Whether a file is a whole photo, and how large, without decoding it.

Decoding all pixels would take more processor time than fetching, checking and
packing together (docs/log/ingest.md). What is looked at is what a decoder needs:
the JPEG's segments up to the first scan, and the end of the image behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from bincount.dataset.rejection import InvalidObject

MOST_PIXELS = 25_000_000
"""Refused above this before a pixel is decoded, by steps and server alike; bins' photos have 0.8 million at most."""

_PNG = b"\x89PNG\r\n\x1a\n"
# Baseline, extended and progressive Huffman: what decoders everywhere read.
_DECODABLE = frozenset({0xC0, 0xC1, 0xC2})


def size_of_photo(bin_id: str, data: bytes) -> tuple[int, int]:
    """Reads a JPEG's size and checks that it is whole.

    Args:
        bin_id: The bin's id, for the message.
        data: The file's bytes.

    Returns:
        Width and height in pixels.

    Raises:
        BadObject: If the file is empty, no JPEG, cut short, damaged before its
            first scan, of a rare kind that decoders refuse, or larger than 25 megapixels.
    """
    if not data:
        raise _bad(bin_id, "photo is empty", "0 bytes")
    if not data.startswith(START):
        kind = "photo is a PNG" if data.startswith(_PNG) else "photo is no JPEG"
        raise _bad(bin_id, kind, repr(data[:8]))
    frame: Frame | None = None
    for segment in segments_of(data):
        if segment.marker in FRAMES:
            frame = frame_of(segment)
            if frame is None:
                raise _bad(bin_id, "photo is damaged", "a frame header of a wrong length")
            _check_frame(bin_id, frame)
        elif not is_sound_table(segment):
            raise _bad(bin_id, "photo is damaged", f"a broken table in segment {segment.marker:#x}")
        # Inside a scan 0xFF is followed by 0x00 or a restart marker: this is the end and nothing else.
        if segment.marker == SCAN and frame and data.rfind(END, segment.end) >= 0:
            if is_sound_scan(segment, frame):
                return frame.width_px, frame.height_px
            raise _bad(bin_id, "photo is damaged", "a broken scan header")
    raise _bad(bin_id, "photo is cut short", f"{len(data)} bytes")


def _check_frame(bin_id: str, frame: Frame) -> None:
    if frame.marker not in _DECODABLE or frame.bits != 8 or len(frame.components) not in (1, 3):
        found = f"frame {frame.marker:#x}, {frame.bits} bits, {len(frame.components)} channels"
        raise _bad(bin_id, "photo is a JPEG of a rare kind", found)
    if not 0 < frame.width_px * frame.height_px <= MOST_PIXELS:
        raise _bad(bin_id, "photo is too large", f"{frame.width_px} x {frame.height_px} px")
    if not is_sound_frame(frame):
        raise _bad(bin_id, "photo is damaged", "a broken frame header")


def _bad(bin_id: str, reason: str, found: str) -> InvalidObject:
    return InvalidObject(
        reason,
        f"bin-images/{bin_id}.jpg: must be a whole JPEG of at most {MOST_PIXELS:,} pixels, got {found} ({reason}). "
        "Replace the file, or let ingest set it aside (it does by default).",
    )


START, END = b"\xff\xd8", b"\xff\xd9"
SCAN, HUFFMAN_TABLES, QUANTISATION_TABLES = 0xDA, 0xC4, 0xDB
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

_BARE = frozenset(range(0xD0, 0xD8)) | {0x01}
_LARGEST_DC_SYMBOL = 15


class Segment(NamedTuple):
    """A marker, its content without the length, and the byte behind it."""

    marker: int
    body: bytes
    end: int


class Frame(NamedTuple):
    """What a frame header says: kind, bits a sample, size in pixels, components."""

    marker: int
    bits: int
    width_px: int
    height_px: int
    components: dict[int, tuple[int, int]]
    """Sampling factors (one byte, as in the file) and quantisation table of each component, by its id."""


def segments_of(data: bytes) -> Iterator[Segment]:
    """Reads segments up to the first scan header, which is the last one; stops early where the file is broken."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding before a marker
            at += 1
        elif marker in _BARE:
            at += 2
        else:
            end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            if end < at + 4 or end > len(data):
                return
            yield Segment(marker, data[at + 4 : end], end)
            if marker == SCAN:
                return
            at = end


def frame_of(segment: Segment) -> Frame | None:
    """Reads a frame header, None where its length is not what it says."""
    body = segment.body
    if len(body) < 6 or len(body) != 6 + 3 * body[5]:
        return None
    components = {body[at]: (body[at + 1], body[at + 2]) for at in range(6, len(body), 3)}
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    return Frame(segment.marker, body[0], width, height, components)


def is_sound_frame(frame: Frame) -> bool:
    """Whether sampling factors are 1 to 4 and tables are among the four there are."""
    return all(
        1 <= sampling >> 4 <= 4 and 1 <= sampling & 15 <= 4 and table <= 3
        for sampling, table in frame.components.values()
    )


def is_sound_table(segment: Segment) -> bool:
    """Whether a segment of Huffman or quantisation tables is one that a decoder takes; true for any other segment."""
    if segment.marker == HUFFMAN_TABLES:
        return _are_huffman_tables(segment.body)
    if segment.marker == QUANTISATION_TABLES:
        return _are_quantisation_tables(segment.body)
    return True


def is_sound_scan(segment: Segment, frame: Frame) -> bool:
    """Whether a scan header names components of the frame and tables there can be."""
    body = segment.body
    if not body or not 1 <= body[0] <= 4 or len(body) != 4 + 2 * body[0]:
        return False
    named = {body[at]: body[at + 1] for at in range(1, 1 + 2 * body[0], 2)}
    return named.keys() <= frame.components.keys() and all(
        tables >> 4 <= 3 and tables & 15 <= 3 for tables in named.values()
    )


# Nearly all photos have the same few tables.
@lru_cache(maxsize=256)
def _are_huffman_tables(body: bytes) -> bool:
    at = 0
    while at + 17 <= len(body):
        kind, number, counts = body[at] >> 4, body[at] & 15, body[at + 1 : at + 17]
        symbols = body[at + 17 : at + 17 + sum(counts)]
        codes = 0
        for length, count in enumerate(counts, 1):
            codes = 2 * codes + count
            if codes > 1 << length:  # more codes than so many bits can tell apart
                return False
        if kind > 1 or number > 3 or sum(counts) > 256 or (kind == 0 and max(symbols, default=0) > _LARGEST_DC_SYMBOL):
            return False
        at += 17 + sum(counts)
    return at == len(body)


@lru_cache(maxsize=256)
def _are_quantisation_tables(body: bytes) -> bool:
    at = 0
    while at < len(body):
        wide, number = body[at] >> 4, body[at] & 15
        if wide > 1 or number > 3:
            return False
        at += 1 + 64 * (1 + wide)
    return at == len(body)
