"""Whether a file is a whole photo, and how large, without decoding it.

Decoding costs 20 times what fetching does, and training decodes anyway. What
is looked at is what a decoder needs: the JPEG's segments up to the scan, and
the end of the image behind it (ITU-T T.81, annex B).
"""

from __future__ import annotations

from bincount.core.rejected import BadObject

# A photo of the bucket has at most 1 megapixel; a decoder needs 3 bytes a pixel and more.
MOST_PIXELS = 50_000_000

_PNG = b"\x89PNG\r\n\x1a\n"
_START, _END, _SCAN = b"\xff\xd8", b"\xff\xd9", 0xDA
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Baseline, extended and progressive Huffman: what decoders everywhere read.
_DECODABLE = frozenset({0xC0, 0xC1, 0xC2})
_BARE = frozenset(range(0xD0, 0xD8)) | {0x01}


def size_of_photo(bin_id: str, data: bytes) -> tuple[int, int]:
    """Reads a JPEG's size and checks that it is whole.

    Args:
        bin_id: The bin's id, for the message.
        data: The file's bytes.

    Returns:
        Width and height in pixels.

    Raises:
        BadObject: If the file is empty, no JPEG, cut short, of a rare kind
            that decoders refuse, or larger than 50 megapixels.
    """
    if not data:
        raise _bad(bin_id, "photo is empty", "0 bytes")
    if not data.startswith(_START):
        kind = "photo is a PNG" if data.startswith(_PNG) else "photo is no JPEG"
        raise _bad(bin_id, kind, repr(data[:8]))
    frame, scan = _find_frame_and_scan(data)
    if frame and (frame[0] not in _DECODABLE or frame[1] != 8 or frame[4] not in (1, 3)):
        raise _bad(
            bin_id, "photo is a JPEG of a rare kind", f"frame {frame[0]:#x}, {frame[1]} bits, {frame[4]} channels"
        )
    if frame and not 0 < frame[2] * frame[3] <= MOST_PIXELS:
        raise _bad(bin_id, "photo is too large", f"{frame[2]} x {frame[3]} px")
    # Inside a scan 0xFF is followed by 0x00 or a restart marker: this is the end and nothing else.
    if not frame or scan is None or data.rfind(_END, scan) < 0:
        raise _bad(bin_id, "photo is cut short", f"{len(data)} bytes")
    return frame[2], frame[3]


def _find_frame_and_scan(data: bytes) -> tuple[tuple[int, int, int, int, int] | None, int | None]:
    """Finds the frame (marker, bits, width, height, channels) and the byte at which its first scan starts."""
    frame, at = None, 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding before a marker
            at += 1
            continue
        if marker in _BARE:
            at += 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if length < 2 or at + 2 + length > len(data):
            break
        if marker in _FRAMES and length >= 8 and frame is None:
            height, width = (int.from_bytes(data[at + start : at + start + 2], "big") for start in (5, 7))
            frame = (marker, data[at + 4], width, height, data[at + 9])
        if marker == _SCAN:
            return frame, at + 2 + length
        at += 2 + length
    return frame, None


def _bad(bin_id: str, reason: str, found: str) -> BadObject:
    return BadObject(
        reason,
        f"bin-images/{bin_id}.jpg: must be a whole JPEG of at most {MOST_PIXELS:,} pixels, got {found} ({reason}). "
        "Replace the file, or let ingest set it aside (it does by default).",
    )
