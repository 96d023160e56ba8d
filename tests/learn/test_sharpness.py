"""Sharpness falls as a photo blurs, whatever its size."""

import io

import numpy as np
from PIL import Image, ImageFilter

from bincount.learn.images import looks_of, sharpness_of


def saved(image):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95)
    return file.getvalue()


def test_blur_lowers_it_and_a_plain_colour_has_none():
    pixels = np.kron(np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8), np.ones((10, 10, 1), np.uint8))
    image = Image.fromarray(pixels)
    blurred = [sharpness_of(saved(image.filter(ImageFilter.GaussianBlur(radius)))) for radius in (0, 2, 6)]
    assert blurred[0] > 2 * blurred[1] > 4 * blurred[2] > 0
    assert sharpness_of(saved(Image.new("RGB", (300, 400), (200, 180, 40)))) < 1


def test_brightness_is_the_mean_grey_value_of_each_photo():
    plain = np.stack([np.full((8, 8, 3), value, np.uint8) for value in (0, 100, 255)])
    brightness, sharpness = looks_of(plain)
    np.testing.assert_allclose(brightness, [0, 100, 255], atol=1e-3)
    np.testing.assert_allclose(sharpness, [0, 0, 0], atol=1e-3)
    np.testing.assert_allclose(looks_of(np.full((1, 8, 8, 3), [0, 255, 0], np.uint8))[0], [0.587 * 255], rtol=1e-5)
