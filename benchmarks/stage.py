"""Steps of the chain, each in a process of its own on a workspace that is thrown away; for other benchmarks."""

from __future__ import annotations

import contextlib
import csv
import importlib
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.measure import Spent, run_process, timed


def run_stage(place: Path, verb: str, **arguments: Any) -> tuple[Spent, dict]:
    """Runs a step: what it took without its imports, the peak memory of its process, and its answer."""
    command = [sys.executable, "-m", "benchmarks.stage", str(place), verb, json.dumps(arguments)]
    process, said = run_process(command)
    told = json.loads(said.splitlines()[-1])
    return Spent(told["wall_s"], told["cpu_s"], process.peak_mb), told["answer"]


def learn(place: Path, source: Path, *, bins: int, image_px: int, trials: int, max_epochs: int) -> tuple[dict, dict]:
    """From bins to a registered model, with random weights: what each step took, and all that the steps answered."""
    spent: dict[str, Spent] = {}
    so_far: dict[str, Any] = {}

    def stage(verb: str, **arguments: Any) -> None:
        spent[verb], answer = run_stage(place, verb, **arguments)
        so_far.update(answer)
        print(f"  {bins:6,} bins  {verb:10} {spent[verb].wall_s:7.1f} s  {spent[verb].peak_mb:6,.0f} MB", flush=True)

    stage("ingest", source=str(source), limit=bins)
    asked = {"weights": "none", "fit": "squash", "image_px": image_px}
    stage("prepare", run_id=so_far["run_id"], manifest=so_far["manifest"], **asked)
    features = {"run_id": so_far["run_id"], "prepared": so_far["prepared"]}
    stage("tune", **features, trials=trials, max_epochs=max_epochs)
    stage("train", **features)
    stage("evaluate", run_id=so_far["run_id"])
    stage("register", run_id=so_far["run_id"])
    return spent, so_far


def write_records(place: Path, manifest: str, path: Path) -> int:
    """Writes what the books say of a manifest's bins, for `reconcile`; how many they are."""
    from bincount.core.manifest import Manifest

    records = Manifest.read(place / "data" / "manifests", manifest).records
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "recorded"), *((record.id, record.recorded) for record in records)])
    return len(records)


def main() -> None:
    place, verb, arguments = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    from bincount.edge import tracking
    from bincount.edge.settings import Settings

    for module in ["mlflow", *(["keras", "keras_tuner", "tensorflow"] if verb != "ingest" else [])]:
        importlib.import_module(module)
    settings = Settings(place / "data", f"sqlite:///{place / 'mlflow.db'}", place / "artifacts")
    tracking.open_run(settings, attempt="benchmark")  # makes the database
    step = getattr(importlib.import_module(f"bincount.steps.{verb}"), verb)
    answer: dict = {}
    with contextlib.redirect_stdout(sys.stderr):
        spent = timed(lambda: answer.update(step(settings, **arguments)))
    print(json.dumps({"wall_s": spent.wall_s, "cpu_s": spent.cpu_s, "answer": answer}))


if __name__ == "__main__":
    main()
