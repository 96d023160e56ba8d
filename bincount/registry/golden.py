"""Golden bins: test photos with the answers that every server of a model must give, and the check of a server."""

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
from bincount.store.workspace import open_workspace
from bincount.tracking import runs
from bincount.tracking.model_registry import Version

if TYPE_CHECKING:
    from bincount.learn.predictor import Predictor

_BINS = 5

Golden = list[tuple[str, bytes, dict]]
"""Id, photo and expected answer of each golden bin."""

ENGINE, PRECISIONS = "bincount.engine", "bincount.precisions"
"""Tags of a version: the library that answers, and the precisions in which the exported network was checked."""


def write_golden(
    settings: Settings,
    run_id: str,
    manifest: Manifest,
    ids: Sequence[str],
    probabilities: np.ndarray,
    predictor: Predictor,
) -> None:
    """Writes a few test photos and the model's answers to a run's folder and to MLflow.

    The most and the least confident predictions are among them. Each photo is
    predicted alone, as for a client's request.

    Args:
        settings: Where things are on this machine.
        run_id: The run.
        manifest: Holds the photos.
        ids: (N,) ids of the scored test bins.
        probabilities: (N, C) predictions for them.
        predictor: The model.
    """
    ranked = np.argsort(probabilities.max(axis=1), kind="stable")
    chosen = {ids[ranked[position]] for position in np.linspace(0, len(ranked) - 1, _BINS).astype(int)}
    records = [record for record in manifest.records if record.id in chosen]
    folder = settings.run(run_id) / "golden"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    answers = {}
    for record, photo in zip(records, photos_of(settings, manifest, records), strict=True):
        (folder / f"{record.id}.photo").write_bytes(photo)
        answers[record.id] = answer_of(predictor.predict([photo])[0], predictor.counts)
    (folder / "answers.json").write_text(json.dumps(answers, indent=1))  # last: marks the folder as complete
    open_workspace(settings).publish(folder, last="answers.json")
    runs.log_artifacts(settings, run_id, folder, "golden")


def read_golden(settings: Settings, run_id: str) -> Golden:
    """Reads a run's golden bins from its folder or else from MLflow.

    Raises:
        DataError: If the run has none.
    """
    folder = settings.run(run_id) / "golden"
    open_workspace(settings).pull_folder(folder)
    if read_json(folder / "answers.json") is None:
        fetch_golden(settings, run_id, folder)
    return golden_in(folder)


def fetch_golden(settings: Settings, run_id: str, folder: Path) -> None:
    """Fetches a run's golden bins from MLflow, complete or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".golden-") as beside:
        fetched = runs.fetch_artifacts(settings, run_id, "golden", Path(beside))
        shutil.rmtree(folder, ignore_errors=True)
        fetched.rename(folder)


def golden_in(folder: Path) -> Golden:
    """Reads the golden bins of a folder.

    Raises:
        DataError: If there is none, or a file is absent or damaged.
    """
    answers = read_json(folder / "answers.json")
    if not answers or not all(map(is_bin_id, answers)):
        raise DataError(
            "golden bins: must be a JSON object by id, got none or something else. Run `bincount register` again."
        )
    try:
        return [(name, (folder / f"{name}.photo").read_bytes(), answer) for name, answer in answers.items()]
    except OSError as error:
        raise DataError(
            f"golden bins: must have their photos, got no {Path(error.filename).name}. Run `bincount register` again."
        ) from None


def tolerance_of(version: Version) -> float:
    """Largest difference between a version's served and offline probabilities."""
    return SAME_WITHIN_BFLOAT16 if BFLOAT16 in version.tags.get(PRECISIONS, "") else SAME_WITHIN


def find_wrong_answer(url: str, golden: Golden, *, token: str | None, timeout_s: float, within: float) -> str | None:
    """Sends the golden bins and something that is no photo to a server, and checks its answers.

    Args:
        url: The server.
        golden: The golden bins.
        token: The server's token, None if it has none.
        timeout_s: Longest time of one request.
        within: Largest difference of probabilities (`tolerance_of`).

    Returns:
        What is wrong with an answer, None if nothing is.
    """
    for name, photo, expected in golden:
        try:
            (answer,) = count_bins(url, [photo], token=token, timeout_s=timeout_s)
        except (DataError, StoreError) as error:
            return str(error)
        if wrong := difference_of(name, expected, answer, within=within):
            return wrong
    try:
        answers = count_bins(url, [b"no photo"], token=token, timeout_s=timeout_s)
    except DataError as refusal:
        return f"its refusal shows a stack trace: {refusal}" if "Traceback" in str(refusal) else None
    except StoreError as error:
        return f"what is no photo should be refused with HTTP 400: {error}"
    return f"what is no photo is answered with {answers!r:.200}."


def difference_of(name: str, expected: dict, answer: dict, *, within: float) -> str | None:
    """The difference between two answers for a golden bin in words, None if they are the same.

    Example:
        >>> expected = {"count": 3, "confidence": 0.61, "probabilities": {"3": 0.61, "4": 0.39}}
        >>> difference_of("00017", expected, expected | {"count": 4, "confidence": 0.39}, within=1e-4)
        'bin 00017 should be 3 (0.6100), and is answered with 4 (0.3900).'
    """
    try:
        if same_answer(expected, answer, within=within):
            return None
        return f"bin {name} should be {format_answer(expected)}, and is answered with {format_answer(answer)}."
    except (KeyError, TypeError):
        return f"bin {name} is answered with {answer!r:.200}."


def format_answer(answer: dict) -> str:
    """A short form of an answer for messages.

    Example:
        >>> format_answer({"count": 3, "confidence": 0.61, "probabilities": {}})
        '3 (0.6100)'
    """
    return f"{answer['count']} ({answer['confidence']:.4f})"
