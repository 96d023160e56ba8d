"""The files of a reconciliation, in the folder where they are asked for."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

from bincount.core.errors import ConfigError
from bincount.core.records import is_bin_id
from bincount.edge.store import Store
from bincount.steps.reconciling.work import Work
from bincount.steps.reconciling.writing import About, rows_of, write_lists

_BESIDE = ".worklist-"


def make_folder(folder: Path) -> None:
    """Makes the folder, unless it is there.

    Raises:
        ConfigError: If it cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"--out: {folder} must be a writable folder, got {error.strerror!r}. Name another."
        ) from error


def publish(work: Work, store: Store, about: About, summary: dict, folder: Path) -> None:
    """Writes every file beside its place, then moves it there; the summary comes last.

    Args:
        work: The bins, judged.
        store: Where the photos are.
        about: What is the same for all bins.
        summary: What `summary.json` says; gets `worklist`, the digest of `worklist.jsonl`.
        folder: Gets `worklist.csv`, `worklist.jsonl`, `report.html` and `summary.json`.
    """
    from bincount.steps.reconciling.photos import reduced_photos
    from bincount.steps.reconciling.report import MOST_PHOTOS, MOST_ROWS, report_of

    for left in folder.glob(f"{_BESIDE}*"):  # by an attempt that was killed
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_BESIDE, dir=folder) as place:
        beside = Path(place)
        write_lists(work, about, beside)
        with (beside / "worklist.jsonl").open("rb") as file:  # by this name outcomes find it again
            summary["worklist"] = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        asked = summary["to_count"] if summary["blind"] else None
        rows = list(rows_of(work, about, limit=MOST_ROWS if asked is None else min(MOST_ROWS, asked)))
        ids = [row["id"] for row in rows[:MOST_PHOTOS] if row["photo"] and is_bin_id(row["id"])]
        page = report_of(summary, rows, reduced_photos(store, ids), about)
        (beside / "report.html").write_text(page, encoding="utf-8")
        (beside / "summary.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
        for name in ("worklist.csv", "worklist.jsonl", "report.html", "summary.json"):
            os.replace(beside / name, folder / name)
