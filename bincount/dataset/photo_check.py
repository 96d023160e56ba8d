"""Whether a file is a complete photo that can be decoded, from its header and its end.

Decoding all pixels would take more processor time than fetching, checking and
packing together (docs/log/ingest.md). What is checked is what a decoder needs:
the JPEG's segments up to the first scan and the end of the image, or the PNG's
header and end. Damaged pixels are noticed when the photo is decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from bincount.dataset.rejection import InvalidObject

MAX_PIXELS = 25_000_000
"""A larger photo is refused before a pixel is decoded, by every step and the server; bins' photos have 0.8 million."""

_PNG, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
# Baseline, extended and progressive Huffman: what every decoder reads.
_DECODABLE = frozenset({0xC0, 0xC1, 0xC2})
_EXIF = b"Exif\x00\x00"


class PhotoHeader(NamedTuple):
    """What the header of a photo says.

    Attributes:
        width_px: Width as it is to be shown, after its EXIF orientation is applied.
        height_px: Height likewise.
        format: "jpeg" or "png".
        orientation: EXIF orientation, 1 to 8; 1 is upright.
    """

    width_px: int
    height_px: int
    format: str
    orientation: int = 1

    @property
    def stored_px(self) -> tuple[int, int]:
        """Width and height of the pixels in the file."""
        size = (self.width_px, self.height_px)
        return size if self.orientation < 5 else (size[1], size[0])


def check_photo(data: bytes) -> PhotoHeader:
    """Reads a photo's header and checks that the file is complete.

    Accepted are JPEGs (baseline, extended or progressive, grey or colour, 8
    bits) and PNGs of 8 bits or less per channel, of at most `MAX_PIXELS`.

    Raises:
        InvalidObject: If the file is anything else: empty, no photo, cut short, damaged before its first scan, CMYK,
            of 16 bits, or too large.
    """
    if not data:
        raise _invalid("photo is empty", "0 bytes")
    if data.startswith(START):
        return _check_jpeg(data)
    if data.startswith(_PNG):
        return _check_png(data)
    raise _invalid("photo is neither JPEG nor PNG", repr(data[:8]))


def _check_jpeg(data: bytes) -> PhotoHeader:
    frame: Frame | None = None
    orientation = 1
    for segment in segments_of(data):
        if segment.marker in FRAMES:
            frame = frame_of(segment)
            if frame is None:
                raise _invalid("photo is damaged", "a frame header of a wrong length")
            _check_frame(frame)
        elif segment.marker == _APP1 and segment.body.startswith(_EXIF):
            orientation = _orientation_of(segment.body[len(_EXIF) :])
        elif not is_sound_table(segment):
            raise _invalid("photo is damaged", f"a broken table in segment {segment.marker:#x}")
        # Inside a scan 0xFF is followed by 0x00 or a restart marker: this is the end and nothing else.
        if segment.marker == SCAN and frame and data.rfind(END, segment.end) >= 0:
            if not is_sound_scan(segment, frame):
                raise _invalid("photo is damaged", "a broken scan header")
            size = (frame.width_px, frame.height_px)
            return PhotoHeader(*(size if orientation < 5 else size[::-1]), "jpeg", orientation)
    raise _invalid("photo is cut short", f"{len(data)} bytes")


def _check_frame(frame: Frame) -> None:
    if frame.marker not in _DECODABLE or frame.bits != 8 or len(frame.components) not in (1, 3):
        found = f"frame {frame.marker:#x}, {frame.bits} bits, {len(frame.components)} channels"
        raise _invalid("photo is a JPEG of a rare kind", found)
    _check_size(frame.width_px, frame.height_px)
    if not is_sound_frame(frame):
        raise _invalid("photo is damaged", "a broken frame header")


def _check_png(data: bytes) -> PhotoHeader:
    if len(data) < 33 or data[12:16] != b"IHDR" or data.rfind(_PNG_END) < 0:
        raise _invalid("photo is cut short", f"{len(data)} bytes")
    width, height, bits = struct.unpack(">IIB", data[16:25])
    if bits > 8:
        raise _invalid("photo has 16 bits per channel", f"a PNG of {bits} bits")
    _check_size(width, height)
    return PhotoHeader(width, height, "png")


def _check_size(width: int, height: int) -> None:
    if not 0 < width * height <= MAX_PIXELS:
        raise _invalid("photo is too large", f"{width} x {height} px")


def _orientation_of(exif: bytes) -> int:
    """The orientation in a TIFF header (CIPA DC-008, 4.6.4 and 4.6.5); 1 if there is none or it is damaged."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    try:
        assert order is not None
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, start)
        for entry in range(min(entries, 200)):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", exif, start + 2 + 12 * entry)
            if (tag, kind) == (0x0112, 3):
                return value if 1 <= value <= 8 else 1
    except (struct.error, AssertionError):
        return 1
    return 1


def _invalid(reason: str, found: str) -> InvalidObject:
    return InvalidObject(
        reason, f"photo: must be a complete JPEG or PNG of at most {MAX_PIXELS:,} pixels, got {found} ({reason})."
    )


START, END = b"\xff\xd8", b"\xff\xd9"
_APP1 = 0xE1
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
