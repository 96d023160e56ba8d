"""The items of a sample bin: boxes, books, bottles, tubes, discs and bags."""

from __future__ import annotations

import colorsys

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

# Range of width / height by kind.
KINDS: dict[str, tuple[float, float]] = {
    "box": (0.7, 1.6),
    "book": (0.65, 0.85),
    "bottle": (0.42, 0.6),
    "tube": (2.2, 3.2),
    "disc": (1.0, 1.0),
    "bag": (0.7, 1.5),
}
_SUPERSAMPLING = 2  # items are drawn this much larger and reduced, for smooth edges

_CONTRAST = 165  # of a label's bars against its paper, of 255

Colour = tuple[int, int, int]


def draw_item(
    kind: str, look: int, size_px: tuple[int, int], label_px: tuple[int, int], at: tuple[float, float]
) -> Image.Image:
    """Draws one item upright, with its barcode label.

    Args:
        kind: One of `KINDS`.
        look: Seed of colour and print; the same for all items of a product.
        size_px: Width and height.
        label_px: Width and height of its barcode label.
        at: Centre of the label, as fractions of the item's width and height.

    Returns:
        RGBA image of `size_px`.
    """
    rng = np.random.default_rng(look)
    width, height = size_px[0] * _SUPERSAMPLING, size_px[1] * _SUPERSAMPLING
    base = _colour(rng)
    face = Image.new("RGB", (width, height), base)
    label = _label(rng, (label_px[0] * _SUPERSAMPLING, label_px[1] * _SUPERSAMPLING), base)
    _print_on(face, rng, base, label.width)
    if kind == "bag":
        _crumple(face, rng)
    shape = Image.new("L", (width, height), 0)
    _SHAPES[kind](ImageDraw.Draw(shape), ImageDraw.Draw(face), width, height, base)
    face.paste(label, (round(at[0] * width - label.width / 2), round(at[1] * height - label.height / 2)))
    item = _shade(face, round_sides=kind in ("bottle", "tube"))
    # A darker rim separates an item from its neighbours.
    ImageDraw.Draw(shape).rectangle((0, 0, width - 1, height - 1), outline=0, width=2)
    rim = shape.filter(ImageFilter.BoxBlur(2)).point(lambda value: 255 * (value > 240))
    worn = rng.uniform(0.45, 0.65)
    item = Image.composite(item, item.point(lambda value: value * worn), rim)
    item.putalpha(shape)
    return item.reduce(_SUPERSAMPLING)


def _label(rng: np.random.Generator, size_px: tuple[int, int], base: Colour) -> Image.Image:
    """Draws a barcode label: dark bars on pale paper above a line of digits.

    All have the same contrast and the tone of their item, so that the number of
    labels cannot be derived from the photo's tones.
    """
    width, height = size_px
    middle = np.clip(0.55 * np.array(base) + rng.uniform(30, 110), _CONTRAST / 2, 255 - _CONTRAST / 2)
    paper, ink = (tuple(int(part) for part in middle + sign * _CONTRAST / 2) for sign in (1, -1))
    label = Image.new("RGB", size_px, paper)
    draw = ImageDraw.Draw(label)
    module = width / 22
    x = 1.6 * module
    while x < width - 2.6 * module:
        bar = module * (1 + rng.random())
        draw.rectangle((x, 0.1 * height, x + bar, 0.76 * height), fill=ink)
        x += bar + module * (1 + 0.7 * rng.random())
    for digit in range(10):
        left = (0.1 + 0.08 * digit) * width
        draw.rectangle((left, 0.83 * height, left + 0.05 * width, 0.93 * height), fill=ink)
    return label


def _colour(rng: np.random.Generator) -> Colour:
    # 20 % white, 20 % dark, 20 % cardboard, 40 % coloured.
    drawn = rng.random()
    if drawn < 0.2:
        hue, saturation, value = rng.random(), 0.05 * rng.random(), rng.uniform(0.72, 0.9)
    elif drawn < 0.4:
        hue, saturation, value = rng.random(), 0.3 * rng.random(), rng.uniform(0.12, 0.3)
    elif drawn < 0.6:
        hue, saturation, value = rng.uniform(0.06, 0.12), rng.uniform(0.25, 0.5), rng.uniform(0.45, 0.75)
    else:
        hue, saturation, value = rng.random(), rng.uniform(0.3, 0.8), rng.uniform(0.3, 0.8)
    return tuple(int(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, value))  # type: ignore[return-value]


def _print_on(face: Image.Image, rng: np.random.Generator, base: Colour, unit: float) -> None:
    """Prints colour fields and lines of small print, with the same density on items of all sizes.

    So the count cannot be derived from the amount of colour or print. `unit` is the
    width of a barcode label in px.
    """
    draw = ImageDraw.Draw(face)
    width, height = face.size
    labels = width * height / unit**2  # the face's area, in squares of a label's width
    for _ in range(rng.poisson(0.5 * labels)):
        x, y = rng.random(2) * (width, height)
        w, h = rng.uniform(0.4, 1.3, 2) * unit
        box = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
        (draw.ellipse if rng.random() < 0.3 else draw.rectangle)(box, fill=_colour(rng))
    # Fainter than a label: one third ink, two thirds the colour below.
    ink = tuple((of_ink + 2 * of_base) // 3 for of_ink, of_base in zip(_colour(rng), base, strict=True))
    for _ in range(rng.poisson(0.5 * labels)):
        size = rng.choice([0.05, 0.07, 0.16]) * unit
        left, top = rng.uniform(-0.1, 0.8) * width, rng.uniform(0.05, 0.9) * height
        for _ in range(rng.integers(2, 7)):
            w = size * rng.uniform(0.5, 2.5)
            draw.rectangle((left, top, left + w, top + size), fill=ink)
            left += w + 0.5 * size


def _crumple(face: Image.Image, rng: np.random.Generator) -> None:
    """Draws the bright and dark folds of a plastic bag on the face."""
    folds = Image.new("L", face.size, 128)
    draw = ImageDraw.Draw(folds)
    for _ in range(14):
        points = rng.random((3, 2)) * face.size
        draw.polygon([tuple(point) for point in points], fill=int(rng.integers(95, 165)))
    folds = folds.filter(ImageFilter.BoxBlur(max(2, face.width // 60)))
    lit = np.asarray(face, np.float32) * (np.asarray(folds, np.float32)[..., None] / 128)
    face.paste(Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8)))


def _shade(face: Image.Image, *, round_sides: bool) -> Image.Image:
    width, height = face.size
    if round_sides:  # a cylinder: dark at both long sides, a highlight off its middle
        across = np.linspace(-1, 1, min(width, height), dtype=np.float32)
        light = 0.5 + 0.55 * np.sqrt(1 - (across * 0.97) ** 2) + 0.25 * np.exp(-(((across + 0.35) / 0.12) ** 2))
        light = light[None, :, None] if width < height else light[:, None, None]
    else:
        light = np.linspace(1.08, 0.86, height, dtype=np.float32)[:, None, None]
    return Image.fromarray(np.clip(np.asarray(face, np.float32) * light, 0, 255).astype(np.uint8))


def _darker(colour: Colour, by: float) -> Colour:
    return tuple(int(part * by) for part in colour)  # type: ignore[return-value]


def _box(shape: ImageDraw.ImageDraw, face: ImageDraw.ImageDraw, w: int, h: int, base: Colour) -> None:
    # The lid seen from above: a slanted, lighter strip.
    lid, slant = 0.12 * h, 0.07 * w
    shape.polygon([(0, lid), (slant, 0), (w - slant, 0), (w - 1, lid), (w - 1, h - 1), (0, h - 1)], fill=255)
    face.rectangle((0, 0, w, lid), fill=_darker(base, 1.0 if sum(base) > 600 else 1.25))
    face.line((0, lid, w, lid), fill=_darker(base, 0.5), width=4)


def _book(shape: ImageDraw.ImageDraw, face: ImageDraw.ImageDraw, w: int, h: int, base: Colour) -> None:
    shape.rounded_rectangle((0, 0, w - 1, h - 1), radius=0.02 * w, fill=255)
    face.rectangle((0, 0, 0.07 * w, h), fill=_darker(base, 0.6))
    for page in range(5):
        left = (0.93 + 0.014 * page) * w
        face.rectangle((left, 0.02 * h, left + 0.008 * w, h), fill=(196, 188, 168))


def _bottle(shape: ImageDraw.ImageDraw, face: ImageDraw.ImageDraw, w: int, h: int, base: Colour) -> None:
    shape.rounded_rectangle((0, 0.2 * h, w - 1, h - 1), radius=0.2 * w, fill=255)
    shape.rectangle((0.24 * w, 0, 0.76 * w, 0.3 * h), fill=255)
    face.rectangle((0, 0, w, 0.16 * h), fill=_darker(base, 0.35))


def _tube(shape: ImageDraw.ImageDraw, face: ImageDraw.ImageDraw, w: int, h: int, base: Colour) -> None:
    shape.rounded_rectangle((0, 0, w - 1, h - 1), radius=0.3 * h, fill=255)
    face.rectangle((0.9 * w, 0, w, h), fill=_darker(base, 0.4))


def _disc(shape: ImageDraw.ImageDraw, face: ImageDraw.ImageDraw, w: int, h: int, base: Colour) -> None:
    shape.ellipse((0, 0, w - 1, h - 1), fill=255)
    face.ellipse((0.04 * w, 0.04 * h, 0.96 * w, 0.96 * h), outline=_darker(base, 0.6), width=max(2, w // 50))


def _bag(shape: ImageDraw.ImageDraw, face: ImageDraw.ImageDraw, w: int, h: int, base: Colour) -> None:
    corners = [
        (0.06, 0.05),
        (0.3, 0),
        (0.72, 0.04),
        (0.97, 0),
        (1, 0.35),
        (0.95, 0.7),
        (1, 0.96),
        (0.6, 1),
        (0.2, 0.96),
    ]
    corners += [(0, 1), (0.05, 0.6), (0, 0.3)]
    shape.polygon([(x * (w - 1), y * (h - 1)) for x, y in corners], fill=255)
    face.line((0, 0.06 * h, w, 0.06 * h), fill=_darker(base, 0.7), width=3)


_SHAPES = {"box": _box, "book": _book, "bottle": _bottle, "tube": _tube, "disc": _disc, "bag": _bag}
