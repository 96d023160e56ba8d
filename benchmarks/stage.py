"""Steps of the chain in a new process, on a workspace that is thrown away; for other benchmarks."""

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
"""What a step takes from what those before it have answered."""


def learning(source: Path, *, bins: int, image_px: int, trials: int, max_epochs: int) -> dict[str, dict[str, Any]]:
    """The steps from bins to a registered model with random weights, and what each is asked."""
    return {
        "ingest": {"source": str(source), "limit": bins},
        "prepare": {"weights": "none", "fit": "squash", "image_px": image_px},
        "tune": {"trials": trials, "max_epochs": max_epochs},
        "train": {},
        "evaluate": {},
        "register": {},
    }


def run_stages(
    place: Path, asked: Mapping[str, Mapping[str, Any]], so_far: Mapping[str, Any] | None = None
) -> tuple[dict[str, Spent], dict[str, Any]]:
    """Runs steps one after the other in one new process.

    Args:
        place: Where workspace and tracking database lie.
        asked: What each step is asked besides what it takes from those before it.
        so_far: What steps before these have answered.

    Returns:
        What each took without imports, with the peak memory of the process; and all that was answered.
    """
    command = [sys.executable, "-m", "benchmarks.stage", str(place), json.dumps([asked, so_far or {}])]
    process, said = run_process(command)
    took, answers = json.loads(said.splitlines()[-1])
    return {verb: Spent(*times, process.peak_mb) for verb, times in took.items()}, answers


def write_records(place: Path, manifest: str, path: Path) -> int:
    """Writes what the books say of a manifest's bins, for `reconcile`; how many they are."""
    from bincount.dataset.manifest import Manifest

    records = Manifest.read(place / "data" / "manifests", manifest).records
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "recorded"), *((record.id, record.recorded) for record in records)])
    return len(records)


def main() -> None:
    place, (asked, so_far) = Path(sys.argv[1]), json.loads(sys.argv[2])
    from bincount.cli import VERBS
    from bincount.settings import Settings
    from bincount.tracking import runs

    learns, searches = [*asked] != ["ingest"], "tune" in asked
    for module in ["mlflow", *["keras", "tensorflow"] * learns, *["keras_tuner"] * searches]:
        importlib.import_module(module)
    settings = Settings(place / "data", f"sqlite:///{place / 'mlflow.db'}", place / "artifacts")
    runs.open_run(settings, attempt="benchmark")  # makes the database
    took = {}
    for verb, arguments in asked.items():
        module, _, name = next(each.target for each in VERBS if each.name == verb).partition(":")
        step = partial(getattr(importlib.import_module(f"bincount.{module}"), name), settings)
        taken = {name: so_far[name] for name in NEEDS.get(verb, ())}
        with contextlib.redirect_stdout(sys.stderr):
            spent = timed(lambda step=step, given={**taken, **arguments}: so_far.update(step(**given)))
        took[verb] = [spent.wall_s, spent.cpu_s]
    print(json.dumps([took, so_far]))


if __name__ == "__main__":
    main()
