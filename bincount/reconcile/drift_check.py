"""Whether the photos of a reconciliation are like those that the model was judged on."""

from __future__ import annotations

import logging

import numpy as np

from bincount.config import DriftLimits
from bincount.counts import Counts
from bincount.evaluate.drift import drift_of, sentence_of
from bincount.evaluate.drift_baseline import DriftBaseline
from bincount.reconcile.state import ReconcileState

_log = logging.getLogger(__name__)

LOOKS = ("width", "height", "brightness", "sharpness", "features")
"""What `scoring` notes of each photo beside its probabilities, in this order, as C float64."""

_COMPARED = "looks IS NOT NULL AND probability IS NOT NULL AND NOT learned"


def check_drift(
    work: ReconcileState, reference: DriftBaseline | None, counts: Counts, limits: DriftLimits
) -> dict | None:
    """Holds the photos, answers and records against the model's reference, a page at a time.

    Compared are bins like those of the reference: recorded with one of the
    model's counts, and not among those that it may have learned from.

    Args:
        work: The bins, judged.
        reference: The model's; None where it has none.
        counts: What it tells apart.
        limits: What is a drift.

    Returns:
        `drift.drift_of`; None where there is nothing to compare with.
    """
    if reference is None:
        _log.warning(
            "drift: the model must say what its photos were like, got a version registered before it did. "
            "Run `bincount evaluate` and `bincount register` for its run again, or train anew."
        )
        return None
    now = {name: each.emptied() for name, each in reference.histograms.items()}
    values = np.asarray(counts.values)
    for page in work.pages("recorded, probabilities, looks", _COMPARED):
        _, recorded, blobs, looks = zip(*page, strict=True)
        probabilities = np.stack([np.frombuffer(blob) for blob in blobs])
        facts = {
            "predicted": values[probabilities.argmax(axis=1)],
            "recorded": np.minimum(recorded, values[-1]),  # an open class stands for all above it
            "confidence": probabilities.max(axis=1),
            **dict(zip(LOOKS, np.stack([np.frombuffer(blob) for blob in looks]).T, strict=True)),
        }
        for name, histogram in now.items():
            known = facts[name][np.isfinite(facts[name])]
            now[name] = histogram.plus(known)
    drift = drift_of(reference.histograms, now, limits)
    for name in drift["beyond"]:
        _log.warning("drift: %s", sentence_of(name, drift["facts"][name]))
    if not drift["beyond"]:
        _log.info("drift: none in %d bins", drift["compared"])
    return drift
