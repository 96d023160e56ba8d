"""Speed of decoding and resizing photos on one core, compared with other readers.

    python -m benchmarks.images [--photos 1000] [--repeats 5] [--image-px 224] [--quick] [--json FILE]

Every reader takes the same original JPEGs from disk to uint8 squares, aspect kept and padded, in batches of 32, each in
a process of its own on one core, in an order that alternates between repeats; the start is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.measure import ORIGINALS, Ratio, bins_at, machine, paired, parser_of, publish, spread

OURS, KERAS, PILLOW, PILLOW_DRAFT, TORCH = (
    "bincount", "Keras image_dataset_from_directory", "Pillow", "Pillow, reduced decoding", "torchvision"
)  # fmt: skip
_BATCH = 32
_GREY = (127, 127, 127)

Reader = Callable[[list[Path], int], Iterator[np.ndarray]]
"""Paths and side to batches of photos."""


def read_ours(paths: list[Path], image_px: int) -> Iterator[np.ndarray]:
    from bincount.learn.images import decode

    for start in range(0, len(paths), _BATCH):
        batch = paths[start : start + _BATCH]
        yield np.stack([decode(path.read_bytes(), image_px=image_px, fit="pad") for path in batch])


def read_keras(paths: list[Path], image_px: int) -> Iterator[np.ndarray]:
    import keras

    dataset = keras.utils.image_dataset_from_directory(
        paths[0].parent, labels=None, shuffle=False, batch_size=_BATCH, image_size=(image_px, image_px),
        pad_to_aspect_ratio=True, verbose=False,
    )  # fmt: skip
    return dataset.as_numpy_iterator()


def read_pillow(paths: list[Path], image_px: int, *, reduced: bool = False) -> Iterator[np.ndarray]:
    from PIL import Image, ImageOps

    for start in range(0, len(paths), _BATCH):
        squares = []
        for path in paths[start : start + _BATCH]:
            with Image.open(path) as image:
                if reduced:
                    image.draft("RGB", (image_px, image_px))
                square = ImageOps.pad(image.convert("RGB"), (image_px, image_px), Image.Resampling.BILINEAR, _GREY)
            squares.append(np.asarray(square))
        yield np.stack(squares)


def read_torch(paths: list[Path], image_px: int) -> Iterator[np.ndarray]:
    import torch
    from torchvision.io import ImageReadMode, read_image
    from torchvision.transforms.v2 import functional

    torch.set_num_threads(1)
    for start in range(0, len(paths), _BATCH):
        squares = []
        for path in paths[start : start + _BATCH]:
            image = read_image(str(path), ImageReadMode.RGB)
            scale = image_px / max(image.shape[1:])
            height, width = (round(side * scale) for side in image.shape[1:])
            image = functional.resize(image, [height, width], antialias=True)
            left, top = (image_px - width) // 2, (image_px - height) // 2
            padding = [left, top, image_px - width - left, image_px - height - top]
            squares.append(functional.pad(image, padding, fill=127).permute(1, 2, 0).numpy())
        yield np.stack(squares)


READERS: dict[str, Reader] = {
    OURS: read_ours,
    KERAS: read_keras,
    PILLOW: read_pillow,
    PILLOW_DRAFT: lambda paths, image_px: read_pillow(paths, image_px, reduced=True),
    TORCH: read_torch,
}


def take_part(reader: str, source: Path, photos: int, image_px: int) -> None:
    """One reader in this process, on one core; prints photos a second."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    paths = sorted((source / "bin-images").glob("*.jpg"))[: photos + _BATCH]
    batches = READERS[reader](paths, image_px)
    next(batches)  # warm-up: tracing and opening files
    started_s, used_s = time.monotonic(), time.process_time()
    read = sum(len(batch) for batch in islice(batches, photos // _BATCH))
    print(json.dumps([read / (time.monotonic() - started_s), read / (time.process_time() - used_s)]))


def compare_readers(source: Path, photos: int, repeats: int, image_px: int) -> dict[str, list[list[float]]]:
    """Photos a second, and a second of processor, of each reader and repeat."""
    readers = [name for name in READERS if name != TORCH or find_spec("torchvision")]
    results: dict[str, list[list[float]]] = {name: [] for name in readers}
    for repeat in range(repeats):
        for reader in readers[::-1] if repeat % 2 else readers:
            command = [sys.executable, "-m", "benchmarks.images", "--as", reader, str(source), str(photos)]
            done = subprocess.run([*command, "--image-px", str(image_px)], capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{reader}: exit {done.returncode}\n{done.stderr[-2000:]}")
            results[reader].append(json.loads(done.stdout))
            print(f"  {reader:34} {results[reader][-1][0]:6,.0f} photos/s", flush=True)
    return results


def ratios_of(readers: dict[str, list[list[float]]]) -> list[Ratio]:
    """Ours against each of the others, in photos a second of processor."""
    ours, *others = readers
    rates = {name: [rate for _, rate in repeats] for name, repeats in readers.items()}
    return [Ratio.of(f"times as fast as {name}", paired(rates[ours], rates[name])) for name in others]


def report(readers: dict[str, list[list[float]]]) -> str:
    """The figures behind the ratios."""
    lines = ["| one core | photos/s of processor | photos/s |", "|---|---|---|"]
    for name, repeats in readers.items():
        walls, rates = zip(*repeats, strict=True)
        lines.append(f"| {name} | {spread(rates, ',.0f')} | {spread(walls, ',.0f')} |")
    if TORCH not in readers:
        lines.append("\ntorchvision is not installed: not measured.")
    return "\n".join(lines)


def main() -> None:
    parser = parser_of(__doc__, ORIGINALS)
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--image-px", type=int, default=224)
    parser.add_argument("--as", nargs=3, dest="role", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        reader, source, photos = options.role
        return take_part(reader, Path(source), int(photos), options.image_px)
    here = machine()
    if options.quick:
        options.photos, options.repeats = 96, 1
    with bins_at(options.source, options.photos + _BATCH, here) as source:
        readers = compare_readers(source, options.photos, options.repeats, options.image_px)
    return publish(options, ratios_of(readers), report(readers), readers, here)


if __name__ == "__main__":
    main()
