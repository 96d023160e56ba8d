"""A run's model, and its predictions for the photos of a manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bincount.dataset.manifest import Manifest, Record
from bincount.dataset.shards import photos_of
from bincount.errors import ConfigError
from bincount.evaluate.count_metrics import truth_of
from bincount.evaluate.drift_baseline import DriftBaseline
from bincount.progress import ProgressLog
from bincount.settings import Settings
from bincount.store.workspace import open_workspace

if TYPE_CHECKING:
    from bincount.learn.predictor import Predictor
    from bincount.mismatch.sums import SumsHead

_BATCH = 64
_REFERENCE = 2000
_DIGITS = 6


def model_of(settings: Settings, run_id: str) -> tuple[Path, dict]:
    """The folder of a run's model and the content of its `model.json`.

    Raises:
        ConfigError: If the run has no trained model.
    """
    folder = settings.run(run_id) / "model"
    open_workspace(settings).pull_folder(folder)
    try:
        return folder, json.loads((folder / "model.json").read_text())
    except OSError:
        raise ConfigError(f"run {run_id}: must have a trained model, got none. Run `bincount train` first.") from None


def digest_of_model(folder: Path) -> str:
    """16 hex digits of the SHA-256 of a model's files: another model, another digest."""
    digest = hashlib.sha256()
    for name in ("model.json", "model.keras"):
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def predict_records(
    settings: Settings, manifest: Manifest, records: Sequence[Record], predictor: Predictor
) -> np.ndarray:
    """A model's predictions for the photos of some records.

    Returns:
        (N, C) distributions in the records' order; the work holds 64 photos at a time.
    """
    return np.concatenate([predictor.predict(photos) for photos in _batches(settings, manifest, records)])


class Observed(NamedTuple):
    """Predictions for the photos of some records, and what these photos are like.

    Attributes:
        probabilities: (N, C) distributions.
        sharpness: (N,) of the photos.
        baseline: The drift baseline. All records are in its histograms, except in those of the features: these are
            computed from at most 2,000 records, evenly spaced.
        kept: (K, D) float32 features of those records whose features were asked for, in their order.
        sums: (N, len(SUMS)) sums of the records' products as predicted from the photos; None if not asked for.
    """

    probabilities: np.ndarray
    sharpness: np.ndarray
    baseline: DriftBaseline
    kept: np.ndarray | None
    sums: np.ndarray | None


def observe_records(
    settings: Settings,
    manifest: Manifest,
    records: Sequence[Record],
    predictor: Predictor,
    *,
    keep: np.ndarray,
    sums: SumsHead | None = None,
) -> Observed:
    """Predicts the counts on the photos of some records.

    Args:
        settings: Where the photos are.
        manifest: The bins.
        records: Those that the model has not learned from, one or more.
        predictor: The model, with features.
        keep: (N,) bool, the records whose features are returned.
        sums: The head that predicts the sums of the records' products from the features; None if they are not wanted.
    """
    counts = predictor.counts
    every = -(-len(records) // _REFERENCE)  # features take 8 kB a photo: some are enough to estimate their spread
    seen: dict[str, list[np.ndarray]] = {"probabilities": [], "brightness": [], "sharpness": []}
    features: list[np.ndarray] = []
    kept: list[np.ndarray] = []
    summed: list[np.ndarray] = []
    row = 0
    for photos in _batches(settings, manifest, records):
        observed = predictor.observe(photos)
        for name, values in seen.items():
            values.append(getattr(observed, name))
        if observed.features is not None:
            features.append(observed.features[-row % every :: every])
            kept.append(observed.features[keep[row : row + len(photos)]])
            if sums is not None:
                summed.append(sums.predict(observed.features))
        row += len(photos)
    probabilities, brightness, sharpness = (np.concatenate(values) for values in seen.values())
    facts = {
        "predicted": np.asarray(counts.values)[probabilities.argmax(axis=1)],
        "recorded": np.asarray(counts.values)[truth_of(records, counts)],
        "confidence": rounded(probabilities.max(axis=1)),
        "width": np.asarray([record.width_px for record in records]),
        "height": np.asarray([record.height_px for record in records]),
        "brightness": rounded(brightness),
        "sharpness": rounded(sharpness),
    }
    baseline = DriftBaseline.of(facts, np.concatenate(features) if features else None, counts)
    return Observed(
        probabilities,
        sharpness,
        baseline,
        np.concatenate(kept) if kept else None,
        np.concatenate(summed) if summed else None,
    )


def rounded(values: np.ndarray) -> np.ndarray:
    """To six digits, float64: further digits differ between processors."""
    return np.round(values.astype(np.float64), _DIGITS)


def _batches(settings: Settings, manifest: Manifest, records: Sequence[Record]) -> Iterator[list[bytes]]:
    """The photos of some records, 64 at a time."""
    photos = photos_of(settings, manifest, records)
    with ProgressLog("bins scored", len(records)) as progress:
        for start in range(0, len(records), _BATCH):
            batch = [next(photos) for _ in range(min(_BATCH, len(records) - start))]
            yield batch
            for photo in batch:
                progress.step(len(photo))
