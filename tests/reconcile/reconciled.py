"""A registered model with a calibration, and bins to reconcile."""

import csv
import io
import json

from PIL import Image

from bincount.evaluate.evaluate import evaluate
from bincount.registry.register import register
from tests.bins import write_bin
from tests.evaluate.trained import open_trained_run, write_manifest
from tests.tiny import photo, write_change_head, write_contents_judge

FILES = ["report.html", "summary.json", "worklist.csv", "worklist.jsonl"]
"""What a reconciliation writes."""


def registered(settings, *, follows=False, unchanged=0, reads=False, **model):
    """Registers a tiny model that learned from drawn bins. Returns its URI.

    It learned from pairs of them too if it `follows`, `unchanged` of them without a move, and from their products if it
    `reads`.
    """
    run_id = open_trained_run(settings, write_manifest(settings, counts=model.get("counts", "1-5")), **model)
    if follows:
        write_change_head(settings.run(run_id) / "model", unchanged=unchanged)
    if reads:
        write_contents_judge(settings.run(run_id) / "model")
    evaluate(settings, run_id=run_id)
    return register(settings, run_id=run_id)["model_uri"]


def write_source(folder, bins=30):
    """Bins 10000 and on, each with as many boxes as it records. Returns their ids and records."""
    recorded = {f"{10_000 + number:05d}": 1 + number % 5 for number in range(bins)}
    for bin_id, count in recorded.items():
        write_bin(folder, bin_id, recorded=count, image=photo(items=count, seed=int(bin_id)))
    return recorded


def darkened(jpeg):
    """A photo at half its brightness."""
    file = io.BytesIO()
    Image.open(io.BytesIO(jpeg)).point(lambda value: value // 2).save(file, "JPEG", quality=90)
    return file.getvalue()


def write_like_learned(folder, change=lambda image: image, bins=100):
    """Bins drawn as those of `write_manifest`, with other ids. Returns the folder as text."""
    for number in range(30_000, 30_000 + bins):
        recorded, size = 1 + number % 5, (60, 40) if number % 3 else (40, 60)
        image = photo(items=recorded, size=size, seed=number)
        write_bin(folder, f"{number:05d}", recorded=recorded, image=change(image))
    return str(folder)


def write_records(path, rows, titles=("id", "recorded")):
    """Writes a CSV. Returns its path as text."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([titles, *rows])
    return str(path)


def read_lists(folder):
    """What stands in worklist.jsonl, in worklist.csv and in summary.json."""
    lines = [json.loads(line) for line in (folder / "worklist.jsonl").read_text().splitlines()]
    with (folder / "worklist.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    return lines, table, json.loads((folder / "summary.json").read_text())
