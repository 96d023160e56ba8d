"""The photo of a sample bin: items that occlude each other, bands, and camera effects."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from bincount.local.sample.background import draw_bands, draw_front, draw_packing_paper, render_background
from bincount.local.sample.items import KINDS, draw_item


@dataclass(frozen=True)
class Scene:
    """The content of a photo; the same scene renders to the same bytes.

    Attributes:
        bin_seed: Seed of the bin and the items' positions, the same for all photos of a bin.
        shot_seed: Seed of camera and light.
        items: All items of the bin's photos, from back to front: kind, one of `items.KINDS`,
            and look, the seed of colour and print.
        shown: Indices of the items that this photo shows, ascending.
    """

    bin_seed: int
    shot_seed: int
    items: tuple[tuple[str, int], ...]
    shown: tuple[int, ...]


@dataclass(frozen=True)
class _Position:
    x: float  # centre, px
    y: float
    w: float
    h: float
    angle: float  # radians, anticlockwise

    def points(self, fractions: np.ndarray) -> np.ndarray:
        """The photo's coordinates of points (n, 2) given as fractions of the item's width and height."""
        u, v = (fractions[:, 0] - 0.5) * self.w, (fractions[:, 1] - 0.5) * self.h
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return np.stack([self.x + u * cos + v * sin, self.y - u * sin + v * cos], 1)

    def covers(self, points: np.ndarray) -> np.ndarray:
        """(n,) bool: which of the photo's points (n, 2) the item covers."""
        dx, dy = points[:, 0] - self.x, points[:, 1] - self.y
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        u, v = dx * cos - dy * sin, dx * sin + dy * cos
        inside: np.ndarray = (abs(u) < self.w / 2) & (abs(v) < self.h / 2)
        return inside


_GRID = np.stack(np.meshgrid(np.linspace(0, 1, 7), np.linspace(0, 1, 7)), -1).reshape(-1, 2)
_LABEL = np.array([0.17, 0.094])  # width and height of a barcode label, as fractions of the photo's long side


def render(scene: Scene) -> bytes:
    """Renders a scene as a JPEG.

    Size, bytes and colours of a photo do not depend on the count: fabric, the items'
    total area, print, light, tint, blur, noise and JPEG quality are drawn without
    it. Only the items' outlines and their barcode labels of equal size show it.

    Returns:
        A JPEG, 315 to 785 px wide, portrait or landscape.
    """
    rng = np.random.default_rng(scene.bin_seed)
    width = int(rng.integers(315, 786))
    height = round(
        min(1069, max(240, width * rng.choice([rng.uniform(0.6, 0.85), rng.uniform(1.1, 1.6)], p=[0.65, 0.35])))
    )
    floor = round(height * rng.uniform(0.84, 0.9))
    photo = render_background(rng, width, height, floor)
    positions = _positions_of(rng, scene.items, width, floor)
    label_px = np.round(_LABEL * max(width, height)).astype(int)
    draw_packing_paper(photo, rng, floor)
    shade = rng.uniform(0.25, 0.8)
    for index in scene.shown:
        front = [positions[other] for other in scene.shown if other > index]
        _draw(photo, scene.items[index], positions[index], front, label_px, shade)
    draw_bands(photo, rng, floor)
    draw_front(photo, rng, floor)
    return _shoot(photo, np.random.default_rng(scene.shot_seed))


def _positions_of(
    rng: np.random.Generator, items: Sequence[tuple[str, int]], width: int, floor: int
) -> list[_Position]:
    """Positions of the items, from back to front: each the least occluded of 24 candidates."""
    # The items' total area does not depend on their number. The 0.3 corrects for photos of
    # the run that lack an item, which have small counts.
    filled = rng.uniform(0.26, 0.56) * width * floor / (len(items) - 0.3)
    depth = [1.0] if len(items) == 1 else np.linspace(0.55, 1, len(items))  # 1: at the front
    positions: list[_Position] = []
    for (kind, _), near in zip(items, depth, strict=True):
        aspect, area = rng.uniform(*KINDS[kind]), filled * rng.lognormal(0, 0.2)
        w, h = math.sqrt(area * aspect), math.sqrt(area / aspect)
        shrink = min(1, 0.94 * width / w, 0.92 * floor / h)
        w, h = max(24, w * shrink), max(24, h * shrink)
        best, least = None, math.inf
        for _ in range(24):
            lift = rng.random() ** 2 * (1.15 - near) * max(0, floor - h)
            x = rng.uniform(0.48 * w, max(0.5 * w, width - 0.48 * w))
            tried = _Position(x, floor - h / 2 - lift, w, h, rng.normal(0, 0.12))
            crowd = sum(_overlap(tried, other) for other in positions)
            if crowd < least:
                best, least = tried, crowd
        assert best is not None
        positions.append(best)
    return positions


def _overlap(one: _Position, other: _Position) -> float:
    across = min(one.x + one.w / 2, other.x + other.w / 2) - max(one.x - one.w / 2, other.x - other.w / 2)
    down = min(one.y + one.h / 2, other.y + other.h / 2) - max(one.y - one.h / 2, other.y - other.h / 2)
    return max(0, across) * max(0, down) / min(one.w * one.h, other.w * other.h)


def _draw(
    photo: Image.Image,
    item: tuple[str, int],
    position: _Position,
    front: Sequence[_Position],
    label_px: np.ndarray,
    shade: float,
) -> None:
    kind, look = item
    size = np.array([position.w, position.h])
    label_px = np.round(label_px * min(1, *(0.86 * size / label_px))).astype(int)
    # The label is where it is occluded least, as stowers turn it to the front.
    half = label_px / size / 2
    middles = half + _GRID * (1 - 2 * half)
    hidden = []
    for middle in middles:
        points = position.points(middle + (_GRID - 0.5) * 2 * half)
        covered = (points < 0).any(1) | (points >= photo.size).any(1)
        for other in front:
            covered |= other.covers(points)
        hidden.append(covered.mean() + 0.1 * abs(middle - 0.5).sum())
    u, v = middles[int(np.argmin(hidden))]
    drawn = draw_item(kind, look, (round(position.w), round(position.h)), (int(label_px[0]), int(label_px[1])), (u, v))
    drawn = drawn.rotate(math.degrees(position.angle), Image.Resampling.BILINEAR, expand=True)
    corner = round(position.x - drawn.width / 2), round(position.y - drawn.height / 2)
    reach = max(3, round(0.012 * max(photo.size)))
    shadow = Image.new("L", (drawn.width + 4 * reach, drawn.height + 4 * reach))
    shadow.paste(drawn.getchannel("A").point(lambda alpha: alpha * shade), (2 * reach, 2 * reach))
    photo.paste((24, 20, 12), (corner[0] - 2 * reach, corner[1] - reach), shadow.filter(ImageFilter.BoxBlur(reach)))
    photo.paste(drawn, corner, drawn)


def _shoot(photo: Image.Image, rng: np.random.Generator) -> bytes:
    """Applies shift, blur, tint and noise, and encodes at a random quality."""
    scale = max(photo.size) / 600
    left, top = rng.uniform(0, 0.03, 2) * photo.size
    seen = (left, top, left + 0.97 * photo.width, top + 0.97 * photo.height)
    photo = photo.resize(photo.size, Image.Resampling.BILINEAR, box=seen)
    if rng.random() < 0.1:  # the pod was still moving
        photo = photo.filter(ImageFilter.BoxBlur((rng.uniform(0.5, 1.8) * scale, 0.3)))
    photo = photo.filter(ImageFilter.BoxBlur(rng.uniform(0.2, 1.2) * scale))
    # Light mostly shifts tones; scaling them would change the contrast of all edges.
    gain, tint = 0.84 * rng.uniform(0.9, 1.08), np.array([28, 25, 20]) + rng.uniform(-32, 32) + rng.uniform(-13, 13, 3)
    toned = photo.point([int(min(255, max(0, gain * tone + shift))) for shift in tint for tone in range(256)])
    noise = rng.uniform(0.5, 5) * scale * rng.standard_normal((photo.height, photo.width, 1), np.float32)
    pixels = np.clip(np.asarray(toned) + noise.astype(np.int16), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=int(rng.integers(62, 96)))
    return buffer.getvalue()
