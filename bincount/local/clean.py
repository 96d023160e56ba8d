"""`bincount clean`: what takes how much room, and freeing what no model or run needs."""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bincount.dataset.manifest import Manifest
from bincount.files import read_json
from bincount.settings import CHECKOUT, Settings
from bincount.tracking.runs import runs_needed

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Item:
    """A file or folder of this checkout's state.

    Attributes:
        path: Where it is.
        size_bytes: What it takes.
        kept: Why it is needed, "" where nothing needs it.
    """

    path: Path
    size_bytes: int
    kept: str


def add_clean_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `bincount clean`."""
    parser.add_argument("--yes", action="store_true", help="free what nothing needs; without it, it is only shown")
    parser.add_argument(
        "--days", type=float, default=1.0, metavar="D", help="keep what was written in the last D days (default: 1)"
    )


def clean(args: argparse.Namespace) -> int:
    """Prints as JSON what takes how much room and, with `--yes`, frees what nothing needs.

    Returns:
        0.

    Raises:
        StoreError: If MLflow cannot be asked which runs and versions there are; nothing is freed then.
    """
    settings = Settings.from_env()
    items = find_items(settings, home=CHECKOUT / ".airflow", mlruns=CHECKOUT / "mlruns", days=args.days)
    loose = [item for item in items if not item.kept]
    for item in loose if args.yes else ():
        if item.path.is_dir():
            shutil.rmtree(item.path)
        else:
            item.path.unlink(missing_ok=True)
        _log.info("freed %s", item.path)
    answer = {
        "size_bytes": sum(item.size_bytes for item in items),
        "free_bytes": sum(item.size_bytes for item in loose),
        "freed": args.yes,
        "items": [
            {"path": str(item.path), "size_bytes": item.size_bytes, "kept": item.kept or None}
            for item in sorted(items, key=lambda item: -item.size_bytes)
        ],
    }
    json.dump(answer, sys.stdout, indent=2, ensure_ascii=False)
    print()
    if loose and not args.yes:
        _log.info("`bincount clean --yes` frees what nothing keeps.")
    return 0


def find_items(settings: Settings, *, home: Path, mlruns: Path, days: float) -> list[Item]:
    """Lists the checkout's state and says of each part why it is kept.

    Args:
        settings: Where the workspace and MLflow are.
        home: Airflow's home.
        mlruns: MLflow's database and artifacts on this machine.
        days: What was written in so many last days is kept: a step may be at it.

    Raises:
        StoreError: If MLflow cannot be asked.
    """
    since = time.time() - days * 86_400
    needed = runs_needed(settings)
    folders = {name for run in needed for name in _features_of(settings.run(run))}
    shards = {
        Path(shard.name).stem  # the photos and, beside them, the index
        for path in settings.manifests.glob("*.jsonl")
        for shard in Manifest.read(settings.manifests, path.stem).shards
    }
    return [
        *_items(_entries(settings.workspace / "runs"), since, lambda path: needed.get(path.name, "")),
        *_items(_entries(settings.features), since, lambda path: "a kept run uses it" if path.name in folders else ""),
        *_items(_entries(settings.shards), since, lambda path: "a manifest names it" if path.stem in shards else ""),
        *_items(_entries(settings.ingests), since, lambda _: ""),
        *_items(_entries(settings.reconciles), since, lambda _: ""),
        *_items(settings.outcomes.glob("*.jsonl"), since, lambda _: "what counting found"),
        *_items(settings.manifests.glob("*"), since, _of_manifests),
        *_items([settings.workspace / "sample"], since, lambda _: "the sample bins"),
        *_items((home / "logs").glob("dag_id=*/run_id=*"), since, lambda _: ""),
        *_items((home / "logs" / "dag_processor").glob("*"), since, lambda _: ""),
        *_items(home.glob("airflow.db*"), since, lambda _: "Airflow's database"),
        *_items((entry for entry in _entries(mlruns) if entry.name != "README.md"), since, lambda _: "MLflow's"),
    ]


def _of_manifests(path: Path) -> str:
    return "" if path.suffix == ".damaged" else "says what a run has learned from"


def _features_of(run: Path) -> Iterator[str]:
    """The folder of features that a run's note of `prepare` names."""
    note = read_json(run / "prepare.json")
    if note:
        yield note["folder"]


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _items(paths: Iterable[Path], since: float, reason: Callable[[Path], str]) -> Iterator[Item]:
    for path in paths:
        if not path.exists():
            continue
        stats = [one.lstat() for one in (path, *(path.rglob("*") if path.is_dir() else ()))]
        recent = "written lately" if max(stat.st_mtime for stat in stats) > since else ""
        yield Item(path, sum(stat.st_size for stat in stats), reason(path) or recent)
