"""Pixels of the image path: eagerly, inside tf.data, for JPEG and PNG, and what is refused before decoding."""

import io
import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from bincount.errors import ConfigError, DataError
from bincount.learn.images import PAD_VALUE, check_image, decode


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
    return decode(data, image_px=image_px, fit=fit).numpy()


def in_tf_data(data: bytes, image_px: int, fit: str) -> np.ndarray:
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensors(data).map(lambda item: decode(item, image_px=image_px, fit=fit))
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


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_every_colour_mode_becomes_rgb(mode):
    kind = "JPEG" if mode == "CMYK" else "PNG"
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20), (204, 204, 204)).convert(mode).save(buffer, kind)
    image = eager(buffer.getvalue(), 20, "pad").astype(int)
    assert np.abs(image - 204).max() <= 3


def test_progressive_and_grey_jpeg_are_read():
    grey = np.full((30, 50), 90, np.uint8)
    data = encoded(grey, "JPEG", progressive=True)
    assert check_image(data) == (50, 30, "jpeg")
    assert np.abs(eager(data, 20, "squash").astype(int) - 90).max() <= 2


def test_the_header_is_read_without_decoding():
    assert check_image(encoded(scene(33, 44), "JPEG")) == (44, 33, "jpeg")
    assert check_image(encoded(scene(33, 44))) == (44, 33, "png")


def test_checking_loads_no_tensorflow():
    code = "import sys, bincount.learn.images; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


JPEG = encoded(np.zeros((8, 8, 3), np.uint8), "JPEG")
BOMB = encoded(np.zeros((8, 8, 3), np.uint8)).replace(struct.pack(">II", 8, 8), struct.pack(">II", 60_000, 60_000))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "must be a JPEG or PNG file, got no bytes"),
        (b"hello, this is text", "must be a JPEG or PNG file, got b'hello, this '"),
        (b"GIF89a" + bytes(30), "must be a JPEG or PNG file"),
        (JPEG[:30], "a JPEG must have a whole header, got 30 bytes"),
        (JPEG[:2], "a JPEG must have a whole header"),
        (b"\xff\xd8\xff\xda" + bytes(50), "a JPEG must have a whole header"),
        (b"\xff\xd8" + b"\xff" * 5000, "a JPEG must have a whole header"),
        (BOMB[:20], "a PNG must start with a whole header, got 20 bytes"),
        (BOMB, "got 60000 x 60000"),
        (JPEG.replace(b"\x00\x08\x00\x08", b"\x00\x00\x00\x08"), "got 8 x 0"),
        (JPEG.replace(b"\x00\x08\x00\x08", b"\xff\xff\xff\xff"), "got 65535 x 65535"),
    ],
)
def test_what_is_no_photo_is_refused_before_decoding(data, said):
    with pytest.raises(DataError, match=said):
        check_image(data)


def test_an_unknown_fit_is_named():
    with pytest.raises(ConfigError, match="fit: must be one of pad, squash, got 'crop'"):
        decode(JPEG, image_px=8, fit="crop")
