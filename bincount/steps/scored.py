"""A model's folder, and what the model says of photos."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bincount.core.errors import ConfigError
from bincount.core.manifest import Manifest, Record
from bincount.edge.settings import Settings
from bincount.steps.photos import photos_of

if TYPE_CHECKING:
    from bincount.learn.predict import Predictor

_log = logging.getLogger(__name__)
_BATCH = 64


def model_of(settings: Settings, run_id: str) -> tuple[Path, dict]:
    """The folder of a run's model and what its `model.json` says.

    Raises:
        ConfigError: If the run has no trained model.
    """
    folder = settings.run(run_id) / "model"
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
    """What a model says of the photos of some records.

    Returns:
        (N, C) distributions in the records' order; the work holds 64 photos at a time.
    """
    photos = photos_of(settings, manifest, records)
    done: list[np.ndarray] = []
    told = time.monotonic()
    for start in range(0, len(records), _BATCH):
        expected = min(_BATCH, len(records) - start)
        done.append(predictor.predict([next(photos) for _ in range(expected)]))
        if time.monotonic() - told > 10:
            told = time.monotonic()
            _log.info("scored %d of %d bins", start + expected, len(records))
    return np.concatenate(done)
