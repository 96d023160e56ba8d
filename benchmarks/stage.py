"""Steps of the chain in a new process, on a workspace that is thrown away; for other benchmarks."""

from __future__ import annotations

import contextlib
import csv
import importlib
import json
import sys
from collections.abc import Callable, Mapping
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
"""The values that a step takes from the answers of the steps before it."""


def learning(source: Path, *, bins: int, image_px: int, trials: int, max_epochs: int) -> dict[str, dict[str, Any]]:
    """The steps from bins to a registered model with random weights, each with its arguments."""
    return {
        "ingest": {"source": str(source), "limit": bins},
        "prepare": {"weights": "none", "fit": "squash", "image_px": image_px},
        "tune": {"trials": trials, "max_epochs": max_epochs},
        "train": {},
        "evaluate": {},
        "register": {},
    }


def run_stages(
    folder: Path, steps: Mapping[str, Mapping[str, Any]], so_far: Mapping[str, Any] | None = None
) -> tuple[dict[str, Spent], dict[str, Any]]:
    """Runs steps one after the other in one new process.

    Args:
        folder: Folder of the workspace and the tracking database.
        steps: Arguments of each step, without those that it takes from the steps before it.
        so_far: Answers of the steps before these.

    Returns:
        Time of each step without imports, with the peak memory of the process; and the answers of all steps.
    """
    command = [sys.executable, "-m", "benchmarks.stage", str(folder), json.dumps([steps, so_far or {}])]
    process, output = run_process(command)
    took, answers = json.loads(output.splitlines()[-1])
    return {verb: Spent(wall_s, cpu_s, process.peak_mb) for verb, (wall_s, cpu_s) in took.items()}, answers


def write_records(folder: Path, manifest: str, path: Path) -> int:
    """Writes a manifest's records as a CSV for `reconcile`; returns their number."""
    from bincount.dataset.manifest import Manifest

    records = Manifest.read(folder / "data" / "manifests", manifest).records
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "recorded"), *((record.id, record.recorded) for record in records)])
    return len(records)


def main() -> None:
    folder, (steps, so_far) = Path(sys.argv[1]), json.loads(sys.argv[2])
    from bincount.cli import VERBS
    from bincount.settings import Settings
    from bincount.tracking import runs

    learns, searches = {"prepare", "tune", "train"} & steps.keys(), "tune" in steps
    for module in ["mlflow", "openvino", *["keras", "tensorflow"] * bool(learns), *["keras_tuner"] * searches]:
        importlib.import_module(module)
    settings = Settings(folder / "data", f"sqlite:///{folder / 'mlflow.db'}", folder / "artifacts")
    runs.open_run(settings, attempt="benchmark")  # creates the database
    took = {}
    for verb, arguments in steps.items():
        module, _, name = next(each.target for each in VERBS if each.name == verb).partition(":")
        taken = {need: so_far[need] for need in NEEDS.get(verb, ())}
        step = partial(getattr(importlib.import_module(f"bincount.{module}"), name), settings, **taken | arguments)
        with contextlib.redirect_stdout(sys.stderr):
            spent = timed(partial(_run, step, so_far))
        took[verb] = [spent.wall_s, spent.cpu_s]
    print(json.dumps([took, so_far]))


def _run(step: Callable[[], dict[str, Any]], so_far: dict[str, Any]) -> None:
    """Runs one step and adds its answer."""
    so_far.update(step())


if __name__ == "__main__":
    main()
