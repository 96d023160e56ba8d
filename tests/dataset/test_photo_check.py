import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bincount.dataset.photo_check import check_photo
from bincount.dataset.rejection import InvalidObject
from tests.bins import photo


def saved(**options):
    pixels = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
    file = io.BytesIO()
    image = Image.fromarray(pixels).convert(options.pop("mode", "RGB"))
    image.save(file, options.pop("kind", "JPEG"), **options)
    return file.getvalue()


def resized(data, width, height):
    """The same file with another size written in its frame."""
    at = next(data.index(bytes([0xFF, marker])) for marker in (0xC0, 0xC2) if bytes([0xFF, marker]) in data)
    return data[: at + 5] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + data[at + 9 :]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"progressive": True},
        {"mode": "L"},
        {"subsampling": 0, "quality": 100},
        {"comment": b"\xff\xd9 an end that is none"},
        {"restart_marker_blocks": 1},
        {"exif": b"Exif\x00\x00" + photo()},
        {"kind": "PNG"},
        {"kind": "PNG", "mode": "P"},
        {"kind": "PNG", "mode": "RGBA"},
        {"kind": "PNG", "mode": "1"},
    ],
)
def test_reads_the_size_of_a_whole_photo(options):
    assert check_photo(saved(**options))[:2] == (64, 48)
    assert check_photo(saved(**options) + b"\x00\xff padding")[:2] == (64, 48)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "photo is empty"),
        (b"Not Found", "photo is neither JPEG nor PNG"),
        (b"<?xml version='1.0'?>", "photo is neither JPEG nor PNG"),
        (saved(kind="PNG")[:-12], "photo is cut short"),
        (saved(kind="PNG", mode="I;16"), "photo has 16 bits per channel"),
        (saved(kind="PNG")[:16] + b"\x00\x00\xea\x60" * 2 + saved(kind="PNG")[24:], "photo is too large"),
        (saved(kind="GIF"), "photo is neither JPEG nor PNG"),
        (saved(mode="CMYK"), "photo is a JPEG of a rare kind"),
        (resized(saved(), 60_000, 60_000), "photo is too large"),
        (resized(saved(), 6_000, 5_000), "photo is too large"),  # for the model too
        (resized(saved(), 0, 48), "photo is too large"),
        (saved()[:-2], "photo is cut short"),
        (saved()[:400], "photo is cut short"),
        (b"\xff\xd8\xff\xd9", "photo is cut short"),
        (b"\xff\xd8" + b"\x00" * 100, "photo is cut short"),
        (b"\xff\xd8" + b"\xff" * 100_000, "photo is cut short"),
    ],
)
def test_says_what_is_wrong(data, reason):
    with pytest.raises(InvalidObject, match=r"^photo: must be a complete JPEG or PNG") as caught:
        check_photo(data)
    assert caught.value.reason == reason
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_no_cut_goes_unnoticed(options):
    data = saved(**options)
    for length in range(len(data) - 1):
        with pytest.raises(InvalidObject):
            check_photo(data[:length])


@given(st.binary(max_size=200), st.booleans())
def test_noise_never_breaks_it(noise, starts_well):
    with pytest.raises(InvalidObject):
        check_photo((b"\xff\xd8" if starts_well else b"") + noise)
