"""`bincount clean`: lists the disk space that this checkout uses, and frees what no model or run needs."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bincount.dataset.manifest import read_manifest
from bincount.errors import ConfigError
from bincount.files import read_json
from bincount.settings import CHECKOUT, Settings
from bincount.tracking.runs import runs_needed

_log = logging.getLogger(__name__)

COUNTED_WITHIN_DAYS = 30
"""A worklist is kept for so many days after it was written: counts of its bins are imported from its folder."""


@dataclass(frozen=True)
class DiskEntry:
    """A file or folder that can be freed or is needed.

    Attributes:
        path: Its path.
        size_bytes: Its size with all that it holds.
        needed_for: Why it is kept; "" if it can be freed.
    """

    path: Path
    size_bytes: int
    needed_for: str


def add_clean_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `bincount clean`."""
    parser.add_argument(
        "--yes", action="store_true", help="free what is not needed; without this flag it is only listed"
    )
    parser.add_argument(
        "--days", type=float, default=1.0, metavar="D", help="keep what was written in the last D days (default: 1)"
    )


def clean(args: argparse.Namespace) -> int:
    """Prints the disk space used as JSON and, with `--yes`, frees what is not needed.

    Returns:
        0.

    Raises:
        ConfigError: If `--days` is no number >= 0.
        StoreError: If MLflow does not list its runs and versions; nothing is freed then.
    """
    if not args.days >= 0:  # with NaN nothing would be recent
        raise ConfigError(f"--days: must be a number >= 0, got {args.days:g}. Name how many days' files to keep.")
    settings = Settings.from_env()
    settings.need_folder("clean")
    entries = find_entries(settings, home=CHECKOUT / ".airflow", mlruns=CHECKOUT / "mlruns", days=args.days)
    unneeded = [entry for entry in entries if not entry.needed_for]
    for entry in unneeded if args.yes else ():
        if entry.path.is_dir():
            shutil.rmtree(entry.path)
        else:
            entry.path.unlink(missing_ok=True)
        _log.info("freed %s", entry.path)
    answer = {
        "size_bytes": sum(entry.size_bytes for entry in entries),
        "free_bytes": sum(entry.size_bytes for entry in unneeded),
        "freed": args.yes,
        "items": [
            {"path": str(entry.path), "size_bytes": entry.size_bytes, "kept": entry.needed_for or None}
            for entry in sorted(entries, key=lambda entry: -entry.size_bytes)
        ],
    }
    json.dump(answer, sys.stdout, indent=2, ensure_ascii=False)
    print()
    if unneeded and not args.yes:
        _log.info("`bincount clean --yes` frees what is not needed.")
    return 0


def find_entries(settings: Settings, *, home: Path, mlruns: Path, days: float) -> list[DiskEntry]:
    """Lists the files and folders of this checkout's state, each with the reason to keep it.

    Args:
        settings: Workspace and MLflow.
        home: Airflow's home.
        mlruns: Folder of MLflow's database and artifacts.
        days: What was written in so many last days is kept, since a step may be using it.

    Raises:
        StoreError: If MLflow does not answer.
    """
    now = time.time()
    since, needed = now - days * 86_400, runs_needed(settings)

    def of_run(path: Path) -> str:
        summary = path / "reconcile" / "summary.json"
        is_listed = summary.is_file() and summary.stat().st_mtime > now - COUNTED_WITHIN_DAYS * 86_400
        return needed.get(path.name) or ("counts of its worklist may still come" if is_listed else "")

    folders = {name for run in needed for name in _features_of(settings.run(run))}
    shards = {
        Path(shard.name).stem  # the photos and, beside them, the index
        for path in settings.manifests.glob("*.jsonl")
        for shard in read_manifest(settings, path.stem).shards
    }
    return [
        *_entries(_children(settings.workspace / "runs"), since, of_run),
        *_entries(
            _children(settings.features), since, lambda path: "a kept run uses it" if path.name in folders else ""
        ),
        *_entries(_children(settings.shards), since, lambda path: "a manifest names it" if path.stem in shards else ""),
        *_entries(_children(settings.ingests), since, lambda _: ""),
        *_entries(_children(settings.reconciles), since, lambda _: ""),
        *_entries(settings.outcomes.glob("*.jsonl"), since, lambda _: "counted outcomes"),
        *_entries(settings.manifests.glob("*"), since, _of_manifests),
        *_entries([settings.workspace / "sample"], since, lambda _: "the sample bins"),
        *_entries((home / "logs").glob("dag_id=*/run_id=*"), since, lambda _: ""),
        *_entries((home / "logs" / "dag_processor").glob("*"), since, lambda _: ""),
        *_entries(home.glob("airflow.db*"), since, lambda _: "Airflow's database"),
        *_entries(
            (entry for entry in _children(mlruns) if entry.name != "README.md"), since, lambda _: "MLflow's data"
        ),
    ]


def _of_manifests(path: Path) -> str:
    return "" if path.suffix == ".damaged" else "bins of a run"


def _features_of(run: Path) -> Iterator[str]:
    """The folder of the features that a run has prepared."""
    note = read_json(run / "prepare.json")
    if note:
        yield note["folder"]


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _entries(paths: Iterable[Path], since: float, reason: Callable[[Path], str]) -> Iterator[DiskEntry]:
    for path in paths:
        stats = list(_stats(path)) if path.exists() else []
        if not stats:
            continue
        recent = "written recently" if max(stat.st_mtime for stat in stats) > since else ""
        yield DiskEntry(path, sum(stat.st_size for stat in stats), reason(path) or recent)


def _stats(path: Path) -> Iterator[os.stat_result]:
    """Those of a path and of all below it, without what a running step removes meanwhile."""
    below = (Path(folder, name) for folder, *names in os.walk(path) for name in itertools.chain(*names))
    for one in itertools.chain([path], below):
        with contextlib.suppress(FileNotFoundError):
            yield one.lstat()
