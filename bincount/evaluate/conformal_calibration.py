"""Conformal calibration of a trained model on its calibration part, and its coverage on test bins."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bincount.dataset.manifest import Manifest
from bincount.dataset.split import AUXILIARY, LEARNED_PARTS
from bincount.evaluate.batch_inference import predict_records
from bincount.evaluate.evaluation import exclude_learned, truth_of
from bincount.mismatch.calibration import Calibration
from bincount.settings import Settings

if TYPE_CHECKING:
    from bincount.learn.predictor import Predictor

_log = logging.getLogger(__name__)


def calibrate(settings: Settings, folder: Path, manifest: Manifest, predictor: Predictor) -> Calibration:
    """Calibrates a model, unless its folder holds a calibration already.

    Args:
        settings: Where the photos are.
        folder: The model's; `calibration.json` is written there and served with the model.
        manifest: The manifest that the model was trained on.
        predictor: The model.

    Raises:
        DataError: If a shard or an existing calibration is damaged.
    """
    existing = Calibration.read(folder)
    if existing is not None:
        return existing
    counts = predictor.counts
    train = manifest.part("train")
    learned = {record.group for part in (*LEARNED_PARTS, AUXILIARY) for record in manifest.part(part)}
    records = exclude_learned(manifest.part("calibration"), learned)
    probabilities = np.zeros((0, len(counts)))
    if records:
        probabilities = predict_records(settings, manifest, records, predictor)
    groups = [record.group for record in records]
    training = truth_of(train, counts).tolist()
    calibration = Calibration.of(probabilities, truth_of(records, counts), groups, training, counts)
    calibration.write(folder)
    if pooled := calibration.pooled():
        _log.warning(
            "too few calibration bins of %s for thresholds of their own: pooled over counts (%d bins in %d groups)",
            ", ".join(pooled),
            len(records),
            len(set(groups)),
        )
    return calibration


def coverage_of(calibration: Calibration, manifest: Manifest, ids: list[str], probabilities: np.ndarray) -> dict:
    """Coverage and size of the prediction intervals on test bins.

    Args:
        calibration: The model's.
        manifest: Holds the records.
        ids: (N,) ids of the test bins.
        probabilities: (N, C) predicted distributions.

    Returns:
        `test_coverage`, the share of intervals that contain the record (95 % is
        nominal), and `test_set_size`, their mean number of counts.
    """
    recorded = {record.id: record.recorded for record in manifest.part("test")}
    low, high = calibration.bounds(probabilities)
    truth = np.asarray([calibration.counts.index_of(recorded[bin_id]) for bin_id in ids])
    return {
        "test_coverage": float(((low <= truth) & (truth <= high)).mean()),
        "test_set_size": float((high - low + 1).mean()),
    }
