"""Whether a file is a whole photo, and how large, without decoding it.

Decoding all pixels would take more processor time than fetching, checking and
packing together (docs/log/ingest.md). What is looked at is what a decoder needs:
the JPEG's segments up to the first scan, and the end of the image behind it.
"""

from __future__ import annotations

from bincount.core.jpeg import (
    END,
    FRAMES,
    SCAN,
    START,
    Frame,
    frame_of,
    is_sound_frame,
    is_sound_scan,
    is_sound_table,
    segments_of,
)
from bincount.core.rejected import BadObject

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


def _bad(bin_id: str, reason: str, found: str) -> BadObject:
    return BadObject(
        reason,
        f"bin-images/{bin_id}.jpg: must be a whole JPEG of at most {MOST_PIXELS:,} pixels, got {found} ({reason}). "
        "Replace the file, or let ingest set it aside (it does by default).",
    )
