"""The check that a file is a whole photo of an accepted kind, and its header, without decoding pixels.

Every way into bincount (ingest, evaluation, reconciliation, prediction, the server) accepts the same kinds:

| file                                             | answer                            |
|--------------------------------------------------|-----------------------------------|
| JPEG, Huffman-coded, 8 bits, grey or colour      | accepted                          |
| JPEG: CMYK, 12 bits, lossless, arithmetic coding | "photo is a JPEG of a rare kind"  |
| PNG of at most 8 bits a sample, palettes too     | accepted; transparency is ignored |
| PNG of 16 bits a sample                          | "photo is a PNG of a rare kind"   |
| any other format                                 | "photo is no JPEG or PNG"         |

A JPEG's segments, scans and restart markers are followed to its end and a PNG's checksums are compared, so every cut
and every damaged PNG is found. A JPEG has no checksum: damage that leaves its markers intact, such as half a scan with
an end marker behind it, shows only when the pixels are decoded; the decoder reports it with the reason `DAMAGED`.
Decoding here would take more processor time than fetching, checking and packing together (docs/log/ingest.md).
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from bincount.dataset.rejection import InvalidObject

MOST_PIXELS = 25_000_000
"""Larger photos are refused before a pixel is decoded; the photos of `s3://aft-vbi-pds` have 0.8 million at most.
Files of more bytes than `store.interface.MAX_OBJECT_BYTES` are not read at all."""

DAMAGED = "photo is damaged"
"""The reason for photos whose file is broken, or whose pixels cannot be decoded without an error or a warning."""


class PhotoHeader(NamedTuple):
    """Size, format and orientation that a photo's header declares.

    Attributes:
        width_px: Width as stored, before `orientation` is applied.
        height_px: Height as stored.
        format: "jpeg" or "png".
        orientation: EXIF orientation, 1 (upright) to 8; 1 where there is none.
    """

    width_px: int
    height_px: int
    format: str
    orientation: int = 1

    @property
    def shown_px(self) -> tuple[int, int]:
        """Width and height as the photo is shown, upright."""
        size = (self.width_px, self.height_px)
        return size if self.orientation < 5 else (size[1], size[0])


def check_photo(data: bytes, where: str) -> PhotoHeader:
    """Reads a photo's header and checks that the file is whole and of an accepted kind.

    Args:
        data: The file's bytes.
        where: The file's name, for the message.

    Raises:
        InvalidObject: If the file is empty, cut short, damaged, of a kind that is not accepted, or has no pixel or more
            than 25 million.
    """
    try:
        if data.startswith(START):
            return _check_jpeg(data)
        if data.startswith(_PNG):
            return _check_png(data)
        raise _Fault("photo is no JPEG or PNG" if data else "photo is empty", repr(data[:8]) if data else "0 bytes")
    except _Fault as fault:
        raise InvalidObject(
            fault.reason,
            f"{where}: must be a whole JPEG or PNG of at most {MOST_PIXELS:,} pixels, got {fault.details} "
            f"({fault.reason}).",
        ) from None


class _Fault(Exception):
    def __init__(self, reason: str, details: str) -> None:
        super().__init__(reason)
        self.reason, self.details = reason, details


def _check_size(width_px: int, height_px: int) -> None:
    if not 0 < width_px * height_px <= MOST_PIXELS:
        raise _Fault(
            "photo has too many pixels" if width_px * height_px else "photo has no pixels",
            f"{width_px} x {height_px} px",
        )


_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_BITS = {0: (1, 2, 4, 8), 2: (8,), 3: (1, 2, 4, 8), 4: (8,), 6: (8,)}  # by colour type


def _check_png(data: bytes) -> PhotoHeader:
    cut_short = _Fault("photo is cut short", f"{len(data)} bytes")
    header: PhotoHeader | None = None
    has_pixels = False
    at = len(_PNG)
    while True:
        if len(data) < at + 12:
            raise cut_short
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if header is None and (kind, length) != (b"IHDR", 13):
            raise _Fault(DAMAGED, f"{kind!r} in place of its header")
        if end > len(data):
            raise cut_short
        if zlib.crc32(memoryview(data)[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise _Fault(DAMAGED, f"a wrong checksum in chunk {kind!r}")
        if header is None:
            width, height, bits, colour = struct.unpack_from(">IIBB", data, at + 8)
            if bits not in _PNG_BITS.get(colour, ()):
                raise _Fault("photo is a PNG of a rare kind", f"{bits} bits, colour type {colour}")
            _check_size(width, height)
            header = PhotoHeader(width, height, "png")
        elif kind == b"eXIf":
            header = header._replace(orientation=_orientation_of(data[at + 8 : end - 4]))
        elif kind == b"IEND":
            if not has_pixels:
                raise _Fault(DAMAGED, "no pixels")
            return header
        has_pixels |= kind == b"IDAT"
        at = end


START = b"\xff\xd8"
# Baseline, extended and progressive Huffman coding: what all decoders read.
_DECODABLE = frozenset({0xC0, 0xC1, 0xC2})
_PROGRESSIVE = 0xC2
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_HUFFMAN_TABLES, _END, _SCAN, _QUANTISATION_TABLES, _RESTART_INTERVAL, _APP1 = 0xC4, 0xD9, 0xDA, 0xDB, 0xDD, 0xE1
# Markers without a length: restarts and TEM.
_BARE = frozenset(range(0xD0, 0xD8)) | {0x01}
# In a scan 0xFF is followed by 0x00, a restart marker or a padding 0xFF: anything else ends the scan.
_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_RESTART = re.compile(rb"\xff([\xd0-\xd7])")
_LARGEST_DC_SYMBOL = 15


def _check_jpeg(data: bytes) -> PhotoHeader:
    frame: Frame | None = None
    orientation, restart_interval, scans = 1, 0, 0
    for segment in segments_of(data):
        if segment.marker == _END:
            if frame is None or not scans:
                break
            return PhotoHeader(frame.width_px, frame.height_px, "jpeg", orientation)
        if segment.marker in FRAMES:
            if frame is not None:
                raise _Fault(DAMAGED, "two frame headers")
            frame = frame_of(segment)
            if frame is None:
                raise _Fault(DAMAGED, "a frame header of a wrong length")
            _check_frame(frame)
        elif segment.marker == _SCAN:
            if frame is None or not _is_sound_scan(segment, frame):
                raise _Fault(DAMAGED, "a broken scan header")
            if restart_interval:
                _check_restarts(data, segment, frame, restart_interval)
            scans += 1
        elif segment.marker == _RESTART_INTERVAL:
            restart_interval = int.from_bytes(segment.body[:2], "big")
        elif segment.marker == _APP1 and segment.body.startswith(b"Exif\x00\x00"):
            orientation = _orientation_of(segment.body[6:])
        elif not _is_sound_table(segment):
            raise _Fault(DAMAGED, f"a broken table in segment {segment.marker:#x}")
    raise _Fault("photo is cut short", f"{len(data)} bytes")


def _check_frame(frame: Frame) -> None:
    if frame.marker not in _DECODABLE or frame.bits != 8 or len(frame.components) not in (1, 3):
        details = f"frame {frame.marker:#x}, {frame.bits} bits, {len(frame.components)} channels"
        raise _Fault("photo is a JPEG of a rare kind", details)
    _check_size(frame.width_px, frame.height_px)
    if not all(
        1 <= sampling >> 4 <= 4 and 1 <= sampling & 15 <= 4 and table <= 3
        for sampling, table in frame.components.values()
    ):
        raise _Fault(DAMAGED, "a broken frame header")


def _check_restarts(data: bytes, scan: Segment, frame: Frame, interval: int) -> None:
    """Checks number and order of the restart markers in a scan of all components."""
    if frame.marker == _PROGRESSIVE or scan.body[0] != len(frame.components):
        return
    across, down = 1, 1
    if len(frame.components) > 1:  # the sampling factors of a single component have no effect
        across = max(sampling >> 4 for sampling, _ in frame.components.values())
        down = max(sampling & 15 for sampling, _ in frame.components.values())
    units = -(-frame.width_px // (8 * across)) * -(-frame.height_px // (8 * down))
    numbers = [marker[0] & 7 for marker in _RESTART.findall(data, scan.end, scan.next)]
    if numbers != [number % 8 for number in range(-(-units // interval) - 1)]:
        raise _Fault(DAMAGED, f"{len(numbers)} restart markers")


def _orientation_of(exif: bytes) -> int:
    """The orientation in an EXIF block (a TIFF header and its first directory), 1 where it holds none."""
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(exif[:4])
    if order is None or len(exif) < 8:
        return 1
    at = struct.unpack_from(f"{order}I", exif, 4)[0]
    count = struct.unpack_from(f"{order}H", exif, at)[0] if at + 2 <= len(exif) else 0
    for entry in range(at + 2, min(at + 2 + 12 * count, len(exif) - 11), 12):
        tag, kind, _, value = struct.unpack_from(f"{order}HHIH", exif, entry)
        if (tag, kind) == (0x0112, 3):
            return value if 1 <= value <= 8 else 1
    return 1


class Segment(NamedTuple):
    """A marker with its content.

    Attributes:
        marker: Second byte of the marker.
        body: The content without its length.
        end: Byte behind the content.
        next: Byte at which the next marker starts; for a scan header, behind the scan.
    """

    marker: int
    body: bytes
    end: int
    next: int


class Frame(NamedTuple):
    """A frame header: kind, bits a sample, size in pixels, components."""

    marker: int
    bits: int
    width_px: int
    height_px: int
    components: dict[int, tuple[int, int]]
    """Sampling factors (one byte, as in the file) and quantisation table of each component, by its id."""


def segments_of(data: bytes) -> Iterator[Segment]:
    """Reads a JPEG's segments up to the end of the image; stops early where the file is broken."""
    at = len(START)
    while at + 2 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding before a marker
            at += 1
        elif marker in _BARE:
            at += 2
        elif marker == _END:
            yield Segment(marker, b"", at + 2, at + 2)
            return
        else:
            end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            if end < at + 4 or end > len(data):
                return
            following = end
            if marker == _SCAN:
                match = _SCAN_END.search(data, end)
                following = match.start() if match else len(data)
            yield Segment(marker, data[at + 4 : end], end, following)
            at = following


def frame_of(segment: Segment) -> Frame | None:
    """Reads a frame header, None where its length is not the declared one."""
    body = segment.body
    if len(body) < 6 or len(body) != 6 + 3 * body[5]:
        return None
    components = {body[at]: (body[at + 1], body[at + 2]) for at in range(6, len(body), 3)}
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    return Frame(segment.marker, body[0], width, height, components)


def _is_sound_scan(segment: Segment, frame: Frame) -> bool:
    """True if a scan header names components of the frame and tables 0 to 3."""
    body = segment.body
    if not body or not 1 <= body[0] <= 4 or len(body) != 4 + 2 * body[0]:
        return False
    tables = {body[at]: body[at + 1] for at in range(1, 1 + 2 * body[0], 2)}
    return tables.keys() <= frame.components.keys() and all(
        pair >> 4 <= 3 and pair & 15 <= 3 for pair in tables.values()
    )


def _is_sound_table(segment: Segment) -> bool:
    """True if Huffman or quantisation tables can be decoded with; true for any other segment."""
    if segment.marker == _HUFFMAN_TABLES:
        return _are_huffman_tables(segment.body)
    if segment.marker == _QUANTISATION_TABLES:
        return _are_quantisation_tables(segment.body)
    return True


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
            if codes > 1 << length:  # more codes than this number of bits can encode
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
