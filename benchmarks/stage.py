"""Runs steps of the pipeline in a new process on a temporary workspace, for other benchmarks."""

from __future__ import annotations

import contextlib
import csv
import importlib
import json
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measure import Spent, run_process, timed

NEEDS = {
    "prepare": ("run_id", "manifest"),
    "tune": ("run_id", "features"),
    "train": ("run_id", "features"),
    "evaluate": ("run_id",),
    "register": ("run_id",),
}
"""The arguments that a step takes from the results of earlier steps."""


def learning(source: Path, *, bins: int, image_px: int, trials: int, max_epochs: int) -> dict[str, dict[str, Any]]:
    """The arguments of each step from bins to a registered model with random weights."""
    return {
        "ingest": {"source": str(source), "limit": bins},
        "prepare": {"weights": "none", "fit": "squash", "image_px": image_px},
        "tune": {"trials": trials, "max_epochs": max_epochs},
        "train": {},
        "evaluate": {},
        "register": {},
    }


def run_stages(
    place: Path, arguments: Mapping[str, Mapping[str, Any]], so_far: Mapping[str, Any] | None = None
) -> tuple[dict[str, Spent], dict[str, Any]]:
    """Runs steps one after the other in one new process.

    Args:
        place: Folder of workspace and tracking database.
        arguments: Arguments of each step besides those of `NEEDS`.
        so_far: Results of earlier steps.

    Returns:
        Times of each step without imports, with the peak memory of the process; and all results.
    """
    command = [sys.executable, "-m", "benchmarks.stage", str(place), json.dumps([arguments, so_far or {}])]
    process, output = run_process(command)
    took, answers = json.loads(output.splitlines()[-1])
    return {verb: Spent(*times, process.peak_mb) for verb, times in took.items()}, answers


def write_records(place: Path, manifest: str, path: Path) -> int:
    """Writes the inventory records of a manifest's bins for `reconcile`, and returns their number."""
    from bincount.dataset.manifest import Manifest

    records = Manifest.read(place / "data" / "manifests", manifest).records
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "recorded"), *((record.id, record.recorded) for record in records)])
    return len(records)


def main() -> None:
    place, (steps, so_far) = Path(sys.argv[1]), json.loads(sys.argv[2])
    from bincount.cli import VERBS
    from bincount.settings import Settings
    from bincount.tracking import runs

    learns, searches = [*steps] != ["ingest"], "tune" in steps
    for module in ["mlflow", *["keras", "tensorflow"] * learns, *["keras_tuner"] * searches]:
        importlib.import_module(module)
    settings = Settings(place / "data", f"sqlite:///{place / 'mlflow.db'}", place / "artifacts")
    runs.open_run(settings, attempt="benchmark")  # creates the database
    took = {}
    targets = {verb.name: verb.target for verb in VERBS}
    for name, arguments in steps.items():
        module, _, function = targets[name].partition(":")
        step = partial(getattr(importlib.import_module(f"bincount.{module}"), function), settings)
        taken = {key: so_far[key] for key in NEEDS.get(name, ())}
        with contextlib.redirect_stdout(sys.stderr):
            spent = timed(lambda step=step, given={**taken, **arguments}: so_far.update(step(**given)))
        took[name] = [spent.wall_s, spent.cpu_s]
    print(json.dumps([took, so_far]))


if __name__ == "__main__":
    main()
