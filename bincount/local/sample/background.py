"""The sample bin without items: yellow fabric, packing paper, bands, front edge and label."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

_LABEL_COLOURS = ((196, 84, 62), (212, 132, 84), (60, 62, 110), (48, 92, 84), (108, 66, 118), (84, 138, 176))


def render_background(rng: np.random.Generator, width: int, height: int, floor: int) -> Image.Image:
    """Renders an empty bin: back wall, side walls, floor and folds.

    Args:
        rng: Random generator of the bin.
        width: Width in px.
        height: Height in px.
        floor: Row where the front edge begins.

    Returns:
        RGB image.
    """
    yellow = np.array([208, 182, 104], np.float32) * rng.uniform(0.6, 1.05) + rng.uniform(-14, 14, 3).astype(np.float32)
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(0, 1, width, dtype=np.float32)[None, :]
    light = 1 - rng.uniform(0.05, 0.5) * y * rng.uniform(0.3, 1) - rng.uniform(0, 0.25) * abs(x - rng.uniform(0.2, 0.8))
    for wall in (x < rng.uniform(0.02, 0.09), x > rng.uniform(0.91, 0.98)):
        light = np.where(wall, light * rng.uniform(0.72, 1.2), light)
    light = np.where(y < rng.uniform(0, 0.08), light * rng.uniform(0.4, 0.9), light)
    ground = rng.uniform(0.72, 0.95) * floor / height
    light = np.where(y > ground, light * rng.uniform(0.7, 0.95), light)
    # Folds: noise drawn coarse and stretched.
    coarse = Image.fromarray(rng.integers(0, 255, (5, 4), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    light = light * (1 + rng.uniform(0.05, 0.25) * (np.asarray(coarse, np.float32) / 255 - 0.5))
    wall = light[..., None] * yellow
    # The pod's pale, unevenly lit frame beside the bin, so that every photo has pale pixels.
    post = round(rng.uniform(0.05, 0.2) * width)
    side = np.s_[:, :post] if rng.random() < 0.5 else np.s_[:, width - post :]
    tone = rng.uniform(90, 235) + rng.uniform(-50, 50) * y + np.linspace(0, rng.uniform(-50, 50), post)[None, :]
    wall[side] = tone[..., None] * np.array([1, 0.98, 0.95])
    return Image.fromarray(np.clip(wall, 0, 255).astype(np.uint8))


def draw_packing_paper(photo: Image.Image, rng: np.random.Generator, floor: int) -> None:
    """Draws pale or dark packing paper, which is not counted, behind the items."""
    draw = ImageDraw.Draw(photo)
    size = np.array([photo.width, floor])
    for _ in range(rng.integers(1, 3)):
        middle, reach = rng.uniform((0.1, 0.4), (0.9, 0.95)) * size, rng.uniform(0.06, 0.26) * size
        turns = np.sort(rng.uniform(0, 2 * np.pi, 7))
        corners = middle + reach * np.stack([np.cos(turns), np.sin(turns)], 1) * rng.uniform(0.7, 1, (7, 1))
        tone = rng.uniform(130, 235) if rng.random() < 0.65 else rng.uniform(25, 90)
        colour = tone * np.array([1, 0.97, 0.92])
        draw.polygon([tuple(corner) for corner in corners], fill=tuple(int(part) for part in colour))


def draw_bands(photo: Image.Image, rng: np.random.Generator, floor: int) -> None:
    """Draws two or three bands of clear threads, or a steel cable, across the items."""
    width, height = photo.size
    threads = Image.new("L", photo.size, 0)
    draw = ImageDraw.Draw(threads)
    if rng.random() < 0.12:
        y, sag = rng.uniform(0.25, 0.6) * height, rng.uniform(-0.04, 0.04) * height
        thick = max(2, round(0.008 * max(photo.size)))
        draw.line((0, y, width, y + sag), fill=235, width=thick)
        ring = 0.03 * max(photo.size)
        middle = rng.uniform(0.3, 0.9) * width
        draw.rounded_rectangle(
            (middle, y + sag / 2 - ring / 2, middle + 3 * ring, y + sag / 2 + ring / 2),
            ring / 2,
            outline=240,
            width=thick,
        )
    else:
        strength, pitch = rng.uniform(30, 75), max(3, round(rng.uniform(0.009, 0.015) * max(photo.size)))
        for middle in np.linspace(0.18, 0.85, rng.integers(2, 4)) * floor + rng.uniform(-0.05, 0.05) * height:
            half = rng.uniform(0.05, 0.1) * height
            sag = rng.uniform(-0.02, 0.02) * height
            draw.polygon(
                [(0, middle - half), (width, middle - half + sag), (width, middle + half + sag), (0, middle + half)],
                fill=int(0.35 * strength),
            )
            for y in np.arange(middle - half, middle + half, pitch):
                draw.line((0, y, width, y + sag), fill=int(strength * rng.uniform(0.6, 1.4)), width=1 + (pitch > 6))
    photo.paste((216, 206, 190), mask=threads)


def draw_front(photo: Image.Image, rng: np.random.Generator, floor: int) -> None:
    """Draws the front edge with its seam and the bin's label: a code and a QR-like square."""
    width, height = photo.size
    draw = ImageDraw.Draw(photo)
    tone = rng.uniform(0.85, 1.05)
    yellow = tuple(int(part * tone) for part in (222, 200, 122))
    sag = rng.uniform(-0.015, 0.03) * height
    draw.polygon([(0, floor), (width / 2, floor + sag), (width, floor), (width, height), (0, height)], fill=yellow)
    seam = tuple(int(part * 0.8) for part in yellow)
    for left in range(0, width, 9):
        y = floor + sag * (1 - abs(2 * left / width - 1)) + 0.015 * height
        draw.line((left, y, left + 5, y), fill=seam)
    middle = rng.uniform(0.35, 0.65) * width
    label = _label(rng, round(0.28 * min(width, height)))
    label = label.rotate(rng.uniform(-3, 3), Image.Resampling.BICUBIC, expand=True)
    photo.paste(label, (round(middle - label.width / 2), round((floor + sag + height) / 2 - label.height * 0.4)), label)
    if rng.random() < 0.5:  # the front edge of the bin above with its label
        draw.rectangle((0, 0, width, 0.05 * height), fill=yellow)
        above = _label(rng, round(0.28 * min(width, height)))
        photo.paste(above, (round(middle - above.width / 2), round(0.03 * height - above.height)), above)


def _label(rng: np.random.Generator, width: int) -> Image.Image:
    height = max(10, round(0.3 * width))
    label = Image.new("RGB", (width, height), _LABEL_COLOURS[rng.integers(len(_LABEL_COLOURS))])
    draw = ImageDraw.Draw(label)
    draw.rectangle((0.06 * width, 0.15 * height, 0.52 * width, 0.85 * height), fill=(226, 220, 208))
    draw.text(
        (0.1 * width, 0.12 * height),
        f"{rng.integers(1, 5)}{'ABCDEFGHJKL'[rng.integers(11)]}",
        fill=(30, 30, 34),
        font_size=0.62 * height,
    )
    cells = np.where(rng.random((9, 9)) < 0.5, 40, 226).astype(np.uint8)
    for corner in (np.s_[:3, :3], np.s_[:3, -3:], np.s_[-3:, :3]):  # a QR code's finder patterns
        cells[corner] = 40
    side = round(0.72 * height)
    label.paste(
        Image.fromarray(cells).resize((side, side), Image.Resampling.NEAREST),
        (round(0.64 * width), round(0.14 * height)),
    )
    label.putalpha(255)
    return label.filter(ImageFilter.BoxBlur(0.5))
