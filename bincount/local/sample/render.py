"""Writes rendered sample bins, for machines without a bucket.

python -m bincount.local.sample.render --folder DIR       a folder in the bucket's layout
python -m bincount.local.sample.render --sheet OUT.jpg    a contact sheet of some bins with their counts
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from bincount.errors import ConfigError
from bincount.local.sample.plan import SampleBin, metadata_of, plan_bins
from bincount.local.sample.scene import render
from bincount.settings import Settings

SAMPLE_BINS = 1000
VERSION = 2  # raise it when pixels or records change, so that old folders are rendered again
_COLUMNS, _CELL_PX = 6, 220  # of a contact sheet


def render_bin(planned: SampleBin) -> tuple[bytes, bytes]:
    """Renders one bin: the bytes of its JPEG and of its metadata JSON."""
    return render(planned.scene), metadata_of(planned.products)


def write_sample(folder: Path, *, bins: int = SAMPLE_BINS, seed: int = 0, workers: int | None = None) -> None:
    """Writes a sample in the bucket's layout, completely or not at all.

    A folder with the same sample is not changed; another sample is replaced.

    Args:
        folder: Receives `bin-images/<id>.jpg`, `metadata/<id>.json` and `sample.json`
            with number, seed and version.
        bins: Number of bins.
        seed: The same seed gives the same bytes.
        workers: Number of processes; that of the CPU cores if None.

    Raises:
        ConfigError: If `folder` exists and is not a sample, or `bins` or `seed` is out of range.
    """
    identity = {"bins": bins, "seed": seed, "version": VERSION}
    note = folder / "sample.json"
    if note.is_file() and json.loads(note.read_bytes()) == identity:
        return
    if folder.exists() and not note.is_file():
        raise ConfigError(f"{folder}: must be a sample or not exist, got another folder.")
    planned = plan_bins(bins, seed=seed)
    beside = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)  # of a process that was killed
    for part in ("bin-images", "metadata"):
        (beside / part).mkdir(parents=True)
    workers = min(workers or os.cpu_count() or 1, bins)
    # Spawned, since a fork breaks if the caller has threads.
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        rendered = pool.imap(render_bin, planned, chunksize=4)
        for entry, (photo, metadata) in zip(planned, rendered, strict=True):
            (beside / "bin-images" / f"{entry.id}.jpg").write_bytes(photo)
            (beside / "metadata" / f"{entry.id}.json").write_bytes(metadata)
    (beside / "sample.json").write_text(json.dumps(identity))
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)


def sample_folder(settings: Settings) -> Path:
    """The folder of the sample bins in the workspace, rendered if they are not there yet."""
    folder = settings.workspace / "sample"
    write_sample(folder)
    return folder


def contact_sheet(*, bins: int, seed: int) -> Image.Image:
    """Draws bins in a grid, each with its count below."""
    rows = -(-bins // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * _CELL_PX, rows * (_CELL_PX + 24)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, planned in enumerate(plan_bins(bins, seed=seed)):
        photo = Image.open(io.BytesIO(render(planned.scene)))
        photo.thumbnail((_CELL_PX - 8, _CELL_PX - 8))
        left, top = number % _COLUMNS * _CELL_PX, number // _COLUMNS * (_CELL_PX + 24)
        sheet.paste(photo, (left + (_CELL_PX - photo.width) // 2, top + _CELL_PX - photo.height))
        middle = (left + _CELL_PX // 2, top + _CELL_PX + 11)
        draw.text(middle, str(len(planned.products)), fill="black", anchor="mm", font_size=16)
    return sheet


def main(arguments: Sequence[str] | None = None) -> None:
    """Renders a sample or a contact sheet: `python -m bincount.local.sample.render --help`."""
    parser = argparse.ArgumentParser(prog="python -m bincount.local.sample.render", description="Renders sample bins.")
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--folder", type=Path, help="writes a sample in the bucket's layout")
    wanted.add_argument("--sheet", type=Path, help="writes a picture of some bins with their counts")
    parser.add_argument("--bins", type=int, help=f"how many (default: {SAMPLE_BINS}; 24 on a sheet)")
    parser.add_argument("--seed", type=int, default=0, help="the same gives the same bins (default: 0)")
    args = parser.parse_args(arguments)
    try:
        if args.sheet:
            contact_sheet(bins=args.bins or 24, seed=args.seed).save(args.sheet, quality=88)
        else:
            write_sample(args.folder, bins=args.bins or SAMPLE_BINS, seed=args.seed)
    except ConfigError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
