"""Counts the items in photos with a registered model, without a server."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bincount.config import CHAMPION_URI
from bincount.dataset.photo_check import DAMAGED, check_photo
from bincount.dataset.rejection import InvalidObject
from bincount.mismatch.answer import answers_of
from bincount.mismatch.calibration import Calibration
from bincount.settings import Settings
from bincount.store.interface import MAX_OBJECT_BYTES
from bincount.tracking import model_registry

if TYPE_CHECKING:
    from bincount.learn.predictor import Predictor

_log = logging.getLogger(__name__)

_BATCH = 64  # files that are in memory at a time


def predict(settings: Settings, *, files: Sequence[str], model: str = CHAMPION_URI) -> dict:
    """Answers what the model server would answer; a bad file costs no other its answer.

    Args:
        settings: Names the tracking server.
        files: Paths of JPEG or PNG photos.
        model: "models:/bincount@ALIAS" or "models:/bincount/VERSION".

    Returns:
        `predictions`: one entry a file, in their order, with `file` and either its answer
        (`mismatch.answer`) or `error`, the reason why there is none.

    Raises:
        ConfigError: If there is no such model.
        DataError: If the model's files are absent or damaged.
        StoreError: If the tracking server does not answer.
    """
    with tempfile.TemporaryDirectory() as folder:
        fetched = model_registry.fetch_model(settings, model_registry.version_named(settings, model), Path(folder))
        from bincount.learn.predictor import Predictor

        predictor, calibration = Predictor(fetched), Calibration.read(fetched)
        predictions: list[dict] = []
        for start in range(0, len(files), _BATCH):
            predictions += _entries(files[start : start + _BATCH], predictor, calibration)
        return {"predictions": predictions}


def _entries(files: Sequence[str], predictor: Predictor, calibration: Calibration | None) -> list[dict]:
    entries: list[dict[str, Any]] = [{"file": file} for file in files]
    photos: list[tuple[dict[str, Any], bytes]] = []
    for entry in entries:
        try:
            with Path(entry["file"]).open("rb") as file:
                data = file.read(MAX_OBJECT_BYTES + 1)
            if len(data) > MAX_OBJECT_BYTES:
                raise InvalidObject("photo is too large", f"{file.name}: must have at most {MAX_OBJECT_BYTES:,} bytes.")
            check_photo(data, entry["file"])
            photos.append((entry, data))
        except OSError as error:
            entry["error"] = str(error.strerror)
            _log.warning("%s: must be a readable file, got %r.", entry["file"], error.strerror)
        except InvalidObject as error:
            entry["error"] = error.reason
            _log.warning("%s", error)
    seen, damaged = predictor.observe_readable([data for _, data in photos])
    for row in damaged:
        photos[row][0]["error"] = DAMAGED
        _log.warning("%s: its pixels must be whole, got damaged ones.", photos[row][0]["file"])
    if seen is not None:
        answers = answers_of(seen.probabilities, predictor.counts, calibration)
        readable = [entry for row, (entry, _) in enumerate(photos) if row not in damaged]
        for entry, answer in zip(readable, answers, strict=True):
            entry |= answer
    return entries
