"""Counts the items in photos with a registered model, without a server."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from bincount.errors import DataError
from bincount.mismatch.answer import answers_of
from bincount.mismatch.calibration import Calibration
from bincount.settings import Settings
from bincount.tracking import model_registry


def predict(settings: Settings, *, files: Sequence[str], model: str = "models:/bincount@champion") -> dict:
    """Answers what the model server would answer.

    Args:
        settings: Names the tracking server.
        files: Paths of JPEG or PNG photos.
        model: "models:/bincount@ALIAS" or "models:/bincount/VERSION".

    Returns:
        `predictions`: one answer a file, in their order (`mismatch.answer`).

    Raises:
        ConfigError: If there is no such model.
        DataError: If a file cannot be read as a photo.
        StoreError: If the tracking server does not answer.
    """
    photos = [_read(Path(file)) for file in files]
    with tempfile.TemporaryDirectory() as folder:
        fetched = model_registry.fetch_model(settings, model_registry.version_named(settings, model), Path(folder))
        from bincount.learn.predictor import Predictor

        predictor = Predictor(fetched)
        return {"predictions": answers_of(predictor.predict(photos), predictor.counts, Calibration.read(fetched))}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: must be a readable file, got {error.strerror!r}. Name a JPEG or PNG.") from None
