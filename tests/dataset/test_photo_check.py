import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bincount.dataset.photo_check import DAMAGED, PhotoHeader, check_photo
from bincount.dataset.rejection import InvalidObject
from tests.bins import photo, resized, saved


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
    ],
)
def test_reads_the_size_of_a_whole_photo(options):
    assert check_photo(saved(**options), "1.jpg") == PhotoHeader(64, 48, "jpeg")
    assert check_photo(saved(**options) + b"\x00\xff padding", "1.jpg") == PhotoHeader(64, 48, "jpeg")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "photo is empty"),
        (b"Not Found", "photo is no JPEG or PNG"),
        (b"<?xml version='1.0'?>", "photo is no JPEG or PNG"),
        (saved(kind="PNG", mode="I;16"), "photo is a PNG of a rare kind"),
        (saved(kind="GIF"), "photo is no JPEG or PNG"),
        (saved(mode="CMYK"), "photo is a JPEG of a rare kind"),
        (resized(saved(), 60_000, 60_000), "photo has too many pixels"),
        (resized(saved(), 6_000, 5_000), "photo has too many pixels"),  # for the model too
        (resized(saved(), 0, 48), "photo has no pixels"),
        (saved()[:-2], "photo is cut short"),
        (saved()[:400], "photo is cut short"),
        (b"\xff\xd8\xff\xd9", "photo is cut short"),
        (b"\xff\xd8" + b"\x00" * 100, "photo is cut short"),
        (b"\xff\xd8" + b"\xff" * 100_000, "photo is cut short"),
    ],
)
def test_says_what_is_wrong(data, reason):
    with pytest.raises(InvalidObject, match=r"^bin-images/00523\.jpg: must be a whole JPEG or PNG") as caught:
        check_photo(data, "bin-images/00523.jpg")
    assert caught.value.reason == reason
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}, {"kind": "PNG"}])
def test_no_cut_goes_unnoticed(options):
    data = saved(**options)
    for length in range(len(data) - 1):
        with pytest.raises(InvalidObject):
            check_photo(data[:length], "1.jpg")


@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n"]))
def test_noise_never_breaks_it(noise, start):
    with pytest.raises(InvalidObject):
        check_photo(start + noise, "1.jpg")


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        ({"mode": "RGB"}, "jpeg"),
        ({"mode": "L"}, "jpeg"),
        ({"mode": "CMYK"}, "photo is a JPEG of a rare kind"),
        ({"kind": "PNG", "mode": "RGB"}, "png"),
        ({"kind": "PNG", "mode": "L"}, "png"),
        ({"kind": "PNG", "mode": "1"}, "png"),
        ({"kind": "PNG", "mode": "P"}, "png"),
        ({"kind": "PNG", "mode": "RGBA"}, "png"),
        ({"kind": "PNG", "mode": "I;16"}, "photo is a PNG of a rare kind"),
        ({"kind": "GIF", "mode": "P"}, "photo is no JPEG or PNG"),
        ({"kind": "BMP"}, "photo is no JPEG or PNG"),
        ({"kind": "TIFF"}, "photo is no JPEG or PNG"),
        ({"kind": "WEBP"}, "photo is no JPEG or PNG"),
    ],
)
def test_each_kind_of_file_has_one_answer(options, answer):
    data = saved(**options)
    if answer in ("jpeg", "png"):
        assert check_photo(data, "x") == (64, 48, answer, 1)
    else:
        with pytest.raises(InvalidObject) as caught:
            check_photo(data, "x")
        assert caught.value.reason == answer


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_reads_the_orientation(kind, orientation):
    exif = Image.Exif()
    exif[0x010F] = "a maker"
    exif[0x0112] = orientation
    assert check_photo(saved(kind=kind, exif=exif), "x").orientation == orientation


@given(st.binary(max_size=60), st.sampled_from([b"II*\x00", b"MM\x00*", b""]))
def test_a_broken_exif_block_leaves_a_photo_upright(noise, start):
    assert 1 <= check_photo(saved(exif=b"Exif\x00\x00" + start + noise), "x").orientation <= 8


def test_each_flipped_byte_of_a_png_is_found():
    data = saved(kind="PNG", size=(8, 6))
    for at in range(len(data)):
        with pytest.raises(InvalidObject):
            check_photo(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :], "x")


def test_a_missing_restart_marker_is_found():
    data = saved(restart_marker_blocks=1)
    at = data.index(b"\xff\xd3", data.index(b"\xff\xda"))
    for damaged in (data[:at] + data[at + 2 :], data[: at + 1] + b"\xd5" + data[at + 2 :], data[:at] + b"\xff\xd9"):
        with pytest.raises(InvalidObject, match="restart markers") as caught:
            check_photo(damaged, "x")
        assert caught.value.reason == DAMAGED


def test_a_marker_that_does_not_belong_into_a_scan_is_found():
    data = saved(quality=95)
    at = data.index(b"\xff\x00", data.index(b"\xff\xda"))
    with pytest.raises(InvalidObject):
        check_photo(data[: at + 1] + b"\xc0" + data[at + 2 :], "x")
