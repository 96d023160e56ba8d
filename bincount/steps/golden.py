"""A handful of photos with the answers any server of a model must give."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bincount.core.answers import answer_of
from bincount.core.errors import DataError
from bincount.core.files import read_json
from bincount.core.manifest import Manifest
from bincount.core.records import is_bin_id
from bincount.edge import tracking
from bincount.edge.settings import Settings
from bincount.steps.photos import photos_of

if TYPE_CHECKING:
    from bincount.learn.predict import Predictor

_BINS = 5


def write_golden(
    settings: Settings,
    run_id: str,
    manifest: Manifest,
    ids: Sequence[str],
    probabilities: np.ndarray,
    predictor: Predictor,
) -> None:
    """Keeps a few test photos of a run and its model's answers, in its folder and in MLflow.

    Those answered most and least confidently are among them, so that a server
    that answers alike answers right. Each is asked alone, as a client asks.

    Args:
        settings: Where things are on this machine.
        run_id: The run.
        manifest: Holds the photos.
        ids: (N,) ids of the scored test bins.
        probabilities: (N, C) what the model said of them.
        predictor: The model.
    """
    ranked = np.argsort(probabilities.max(axis=1), kind="stable")
    chosen = {ids[ranked[place]] for place in np.linspace(0, len(ranked) - 1, _BINS).astype(int)}
    records = [record for record in manifest.records if record.id in chosen]
    folder = settings.run(run_id) / "golden"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    answers = {}
    for record, photo in zip(records, photos_of(settings, manifest, records), strict=True):
        (folder / f"{record.id}.photo").write_bytes(photo)
        answers[record.id] = answer_of(predictor.predict([photo])[0], predictor.counts)
    (folder / "answers.json").write_text(json.dumps(answers, indent=1))  # last: it says that the photos are there
    tracking.log_artifacts(settings, run_id, folder, "golden")


def read_golden(settings: Settings, run_id: str) -> list[tuple[str, bytes, dict]]:
    """Id, photo and answer of a run's golden bins, from its folder or else from MLflow.

    Raises:
        DataError: If the run kept none.
    """
    folder = settings.run(run_id) / "golden"
    answers = read_json(folder / "answers.json")
    if answers is None:
        _fetch(settings, run_id, folder)
        answers = read_json(folder / "answers.json")
    if answers is None or not all(map(is_bin_id, answers)):
        raise DataError(
            f"run {run_id}: its golden bins must be a JSON object by id, got something else. "
            "Run `bincount register` again."
        )
    try:
        return [(name, (folder / f"{name}.photo").read_bytes(), answer) for name, answer in answers.items()]
    except OSError as error:
        raise DataError(
            f"run {run_id}: must have golden bins, got no {Path(error.filename).name}. Run `bincount register` again."
        ) from None


def _fetch(settings: Settings, run_id: str, folder: Path) -> None:
    """Fetches a run's golden bins from MLflow, all of them or none."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".golden-") as beside:
        fetched = tracking.fetch_artifacts(settings, run_id, "golden", Path(beside))
        shutil.rmtree(folder, ignore_errors=True)
        fetched.rename(folder)
