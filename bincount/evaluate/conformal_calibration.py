"""What a model's calibration part says of it, kept in the model's folder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bincount.dataset.manifest import Manifest
from bincount.evaluate.batch_inference import predict_records
from bincount.evaluate.evaluation import truth_of, without_leakage
from bincount.mismatch.calibration import Calibration
from bincount.settings import Settings

if TYPE_CHECKING:
    from bincount.learn.predictor import Predictor

_log = logging.getLogger(__name__)


def calibrate(settings: Settings, folder: Path, manifest: Manifest, predictor: Predictor) -> Calibration:
    """Scores the calibration part once; what is in the model's folder already stays.

    Args:
        settings: Where the photos are.
        folder: The model's; `calibration.json` goes there, so it is served with the model.
        manifest: The bins that the model learned from.
        predictor: The model.

    Raises:
        DataError: If a shard, or the file that is there, is damaged.
    """
    found = Calibration.read(folder)
    if found is not None:
        return found
    counts = predictor.counts
    train = manifest.part("train")
    learned = {record.group for record in [*train, *manifest.part("validation")]}
    records = without_leakage(manifest.part("calibration"), learned)
    probabilities = np.zeros((0, len(counts)))
    if records:
        probabilities = predict_records(settings, manifest, records, predictor)
    groups = [record.group for record in records]
    made = Calibration.of(probabilities, truth_of(records, counts), groups, truth_of(train, counts).tolist(), counts)
    made.write(folder)
    if pooled := made.pooled():
        _log.warning(
            "too few calibration bins of %s for bounds of their own: the counts share theirs (%d bins in %d groups)",
            ", ".join(pooled),
            len(records),
            len(set(groups)),
        )
    return made


def coverage_of(calibration: Calibration, manifest: Manifest, ids: list[str], probabilities: np.ndarray) -> dict:
    """How the prediction sets did on test bins.

    Args:
        calibration: The model's.
        manifest: Says what is recorded.
        ids: (N,) ids of the test bins.
        probabilities: (N, C) what the model said of them.

    Returns:
        `test_coverage`, the share of sets that hold the record (95 % is
        stated), and `test_set_size`, how many counts a set holds on average.
    """
    recorded = {record.id: record.recorded for record in manifest.part("test")}
    low, high = calibration.bounds(probabilities)
    truth = np.asarray([calibration.counts.index_of(recorded[bin_id]) for bin_id in ids])
    return {
        "test_coverage": float(((low <= truth) & (truth <= high)).mean()),
        "test_set_size": float((high - low + 1).mean()),
    }
