"""Sharpness falls as a photo blurs, whatever its size."""

import io

import numpy as np
from PIL import Image, ImageFilter

from bincount.learn.sharpness import sharpness_of


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
