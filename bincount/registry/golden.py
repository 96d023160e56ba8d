"""A handful of photos with the answers any server of a model must give."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bincount.client import count_bins
from bincount.dataset.manifest import Manifest
from bincount.dataset.metadata import is_bin_id
from bincount.dataset.shards import photos_of
from bincount.errors import DataError, StoreError
from bincount.files import read_json
from bincount.learn.engine import BFLOAT16
from bincount.mismatch.answer import SAME_WITHIN, SAME_WITHIN_BFLOAT16, answer_of, same_answer
from bincount.settings import Settings
from bincount.tracking import runs
from bincount.tracking.model_registry import Version

if TYPE_CHECKING:
    from bincount.learn.predictor import Predictor

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
    runs.log_artifacts(settings, run_id, folder, "golden")


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
        fetched = runs.fetch_artifacts(settings, run_id, "golden", Path(beside))
        shutil.rmtree(folder, ignore_errors=True)
        fetched.rename(folder)


Golden = list[tuple[str, bytes, dict]]

ENGINE, PRECISIONS = "bincount.engine", "bincount.precisions"
"""Tags of a version: what answers, such as "openvino", and in which precisions it was checked."""


def tolerance_of(version: Version) -> float:
    """How far a version's served probabilities may be from the offline ones."""
    return SAME_WITHIN_BFLOAT16 if BFLOAT16 in version.tags.get(PRECISIONS, "") else SAME_WITHIN


def difference_from_golden(
    url: str, golden: Golden, *, token: str | None, timeout_s: float, within: float
) -> str | None:
    """Asks a server for golden bins, and about something that is no photo.

    Args:
        url: The server.
        golden: Id, photo and offline answer of each bin (`registry.golden`).
        token: What the server asks of its clients, None for nothing.
        timeout_s: How long to wait for one answer.
        within: How far its probabilities may be from the offline ones (`tolerance_of`).

    Returns:
        What is wrong with its answers, None where nothing is.
    """
    for name, photo, expected in golden:
        try:
            (answer,) = count_bins(url, [photo], token=token, timeout_s=timeout_s)
        except (DataError, StoreError) as error:
            return str(error)
        try:
            same = same_answer(expected, answer, within=within)
        except (KeyError, TypeError):
            return f"bin {name} is answered with {answer!r:.200}."
        if not same:
            return f"bin {name} should be {said(expected)}, and is answered with {said(answer)}."
    try:
        taken = count_bins(url, [b"no photo"], token=token, timeout_s=timeout_s)
    except DataError as refusal:
        return f"its refusal shows a stack trace: {refusal}" if "Traceback" in str(refusal) else None
    except StoreError as error:
        return f"what is no photo should be refused with HTTP 400: {error}"
    return f"what is no photo is answered with {taken!r:.200}."


def said(answer: dict) -> str:
    """An answer in a few characters.

    Example:
        >>> said({"count": 3, "confidence": 0.61, "probabilities": {}})
        '3 (0.6100)'
    """
    return f"{answer['count']} ({answer['confidence']:.4f})"
