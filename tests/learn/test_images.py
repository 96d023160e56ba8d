"""Pixels of the one image function: directly and inside tf.data, for JPEG and PNG, upright, and what is refused."""

import io
import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from bincount.dataset.photo_check import check_photo
from bincount.errors import ConfigError, DataError
from bincount.learn.images import PAD_VALUE, decode, looks_of


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth blobs with some edges: what a photo is to a resizer, (height, width, 3) uint8."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    pixels = np.array(coarse)
    pixels[height // 3 : height // 2, width // 4 : width // 2] = (240, 200, 30)
    return pixels


def eager(data: bytes, image_px: int, fit: str) -> np.ndarray:
    return decode(data, image_px=image_px, fit=fit)


def in_tf_data(data: bytes, image_px: int, fit: str) -> np.ndarray:
    import tensorflow as tf

    def square(item: bytes) -> np.ndarray:
        return decode(item, image_px=image_px, fit=fit)

    dataset = tf.data.Dataset.from_tensors(data).map(lambda item: tf.numpy_function(square, [item], tf.uint8))
    return next(iter(dataset)).numpy()


@pytest.mark.parametrize("way", [eager, in_tf_data])
@pytest.mark.parametrize(
    ("fit", "size", "at", "ends"),
    [
        ("pad", (32, 32), (5, 9), (5, 9)),
        ("squash", (32, 32), (5, 9), (5, 9)),
        ("pad", (16, 32), (0, 31), (8, 31)),  # landscape: 8 rows of grey above and below
        ("pad", (32, 16), (31, 0), (31, 8)),  # portrait: 8 columns of grey left and right
    ],
)
def test_a_white_pixel_goes_where_it_should(way, fit, size, at, ends):
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[at] = 255
    image = way(encoded(pixels), 32, fit)
    assert image.dtype == np.uint8
    assert image.shape == (32, 32, 3)
    white = np.argwhere(image.min(axis=-1) == 255)
    assert white.tolist() == [list(ends)]


def test_padding_is_grey_on_both_sides_and_squash_has_none():
    black = encoded(np.zeros((10, 40, 3), np.uint8))
    padded = eager(black, 40, "pad")
    assert (padded[:15] == PAD_VALUE).all()
    assert (padded[25:] == PAD_VALUE).all()
    assert not padded[15:25].any()
    assert not eager(black, 40, "squash").any()


@pytest.mark.parametrize("fit", ["pad", "squash"])
@pytest.mark.parametrize("size", [(48, 48), (300, 500), (785, 1069), (20, 700), (1, 1)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_eager_and_tf_data_give_the_same_pixels(fit, size, kind):
    data = encoded(scene(*size), kind)
    np.testing.assert_array_equal(eager(data, 48, fit), in_tf_data(data, 48, fit))


@pytest.mark.parametrize("size", [(60, 90), (334, 487), (1069, 785)])
def test_jpeg_and_png_of_one_picture_agree(size):
    pixels = scene(*size)
    jpeg = eager(encoded(pixels, "JPEG", quality=98, subsampling=0), 64, "pad").astype(int)
    png = eager(encoded(pixels), 64, "pad").astype(int)
    assert np.abs(jpeg - png).mean() < 2


@pytest.mark.parametrize("size", [(334, 487), (556, 584), (1069, 785)])
def test_reduced_decoding_stays_near_the_antialiased_resize_of_the_whole(size):
    import tensorflow as tf

    pixels = scene(*size)
    data = encoded(pixels, "JPEG", quality=95)
    whole = tf.image.resize(tf.io.decode_jpeg(data), (96, 96), antialias=True).numpy()
    assert np.abs(eager(data, 96, "squash") - whole).mean() < 3


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1"])
def test_every_colour_mode_becomes_rgb(mode):
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20), (255, 255, 255)).convert(mode).save(buffer, "PNG")
    image = eager(buffer.getvalue(), 20, "pad").astype(int)
    assert np.abs(image - 255).max() <= 3


def test_progressive_and_grey_jpeg_are_read():
    grey = np.full((30, 50), 90, np.uint8)
    data = encoded(grey, "JPEG", progressive=True)
    assert check_photo(data, "x")[:3] == (50, 30, "jpeg")
    assert np.abs(eager(data, 20, "squash").astype(int) - 90).max() <= 2


def test_the_header_is_read_without_decoding():
    assert check_photo(encoded(scene(33, 44), "JPEG"), "x")[:3] == (44, 33, "jpeg")
    assert check_photo(encoded(scene(33, 44)), "x")[:3] == (44, 33, "png")


def test_importing_it_loads_no_tensorflow():
    code = "import sys, bincount.learn.images; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("fit", ["pad", "squash"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_shown_upright(orientation, fit):
    upright = Image.fromarray(scene(60, 90))
    inverse = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # of Image.Transpose
    stored = upright if inverse is None else upright.transpose(Image.Transpose(inverse))
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    stored.save(buffer, "JPEG", quality=98, subsampling=0, exif=exif)
    header = check_photo(buffer.getvalue(), "x")
    assert (header.shown_px, header.orientation) == ((90, 60), orientation)
    shown = eager(buffer.getvalue(), 32, fit).astype(int)
    expected = eager(encoded(np.asarray(upright), "JPEG", quality=98, subsampling=0), 32, fit).astype(int)
    assert np.abs(shown - expected).mean() < 2


@pytest.mark.parametrize("tag", [b"MM\x00*", b"II*\x00", b"", b"II*\x00\xff\xff\xff\xff", bytes(40)])
def test_a_damaged_exif_is_no_orientation(tag):
    data = encoded(scene(33, 44), "JPEG")
    body = b"Exif\x00\x00" + tag
    marked = data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]
    assert check_photo(marked, "x").orientation == 1


def damaged(data: bytes, kind: str) -> bytes:
    middle = len(data) // 2
    if kind == "half":
        return data[:middle] + b"\xff\xd9"
    if kind == "flipped":
        return data[:middle] + bytes(byte ^ 0x5A for byte in data[middle : middle + 40]) + data[middle + 40 :]
    return data[:middle] + bytes(200) + data[middle + 200 :]


@pytest.mark.parametrize("kind", ["half", "flipped", "zeros"])
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_damaged_pixels_are_noticed(kind, form):
    data = encoded(scene(200, 300), form)
    with pytest.raises(DataError, match=r"photo: (its pixels must be whole|must be a whole JPEG)"):
        eager(damaged(data, kind), 64, "pad")


def test_brightness_and_sharpness_of_plain_and_striped():
    plain = np.full((1, 10, 10, 3), 90, np.uint8)
    striped = np.zeros((1, 10, 10, 3), np.uint8)
    striped[:, ::2] = 255
    brightness, sharpness = looks_of(np.concatenate([plain, striped]))
    np.testing.assert_allclose(brightness, [90, 127.5], atol=0.1)
    assert sharpness[0] < 1e-3
    assert sharpness[1] > 10_000


def test_an_unknown_fit_is_named():
    with pytest.raises(ConfigError, match="fit: must be one of pad, squash, got 'crop'"):
        decode(encoded(scene(8, 8), "JPEG"), image_px=8, fit="crop")
