"""Scores photos with the model and compares their statistics with the model's drift baseline."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from bincount.config import DriftLimits
from bincount.counts import Counts
from bincount.dataset.keys import photo_key
from bincount.dataset.photo_check import DAMAGED
from bincount.dataset.reader import photo_of
from bincount.dataset.rejection import Rejection
from bincount.errors import RowError
from bincount.evaluate.batch_inference import rounded
from bincount.evaluate.drift import drift_of, sentence_of
from bincount.evaluate.drift_baseline import DriftBaseline
from bincount.progress import ProgressLog
from bincount.reconcile.state import ReconcileState
from bincount.store.interface import Store

if TYPE_CHECKING:
    from bincount.learn.predictor import Predictor

_log = logging.getLogger(__name__)

PHOTO_STATISTICS = ("width", "height", "brightness", "sharpness", "features")
"""Stored of each photo beside its probabilities, in this order."""

_CHUNK = 256
_WORKERS = 32
_COMPARABLE = "statistics IS NOT NULL AND probability IS NOT NULL AND NOT learned"
_UNSEEN = "has_photo AND probabilities IS NULL AND photo_problem IS NULL"

_Photo = tuple[int, bytes, tuple[int, int]]  # position, file, width and height
_Row = tuple[bytes | None, bytes | None, str, int]


def score_photos(work: ReconcileState, store: Store, predictor: Predictor, reference: DriftBaseline | None) -> None:
    """Predicts count probabilities for every photo without them, 256 photos at a time.

    Chunks end at the same bins whether the run was killed in between or not,
    so that the same photos go through the network together. Their
    `PHOTO_STATISTICS` are stored beside the probabilities.

    Raises:
        StoreError: If the source does not answer; scored photos stay.
    """
    unseen = work.count(_UNSEEN)
    if not unseen:
        return
    waiting: deque[tuple[int, str]] = deque()

    def keys() -> Iterator[str]:
        for page in work.pages("id", _UNSEEN):
            waiting.extend(page)
            yield from (photo_key(bin_id) for _, bin_id in page)

    chunk: list[_Photo] = []
    bad: list[_Row] = []
    with ProgressLog("photos", unseen) as progress, closing(store.fetch(keys(), workers=_WORKERS)) as answers:
        for answer in answers:
            position, bin_id = waiting.popleft()
            photo = photo_of(bin_id, answer)
            if isinstance(photo, Rejection):
                bad.append((None, None, photo.reason, position))
            else:
                chunk.append((position, photo.data, photo.header.shown_px))
            if len(chunk) + len(bad) == _CHUNK:
                _score(work, predictor, reference, chunk, bad, progress)
                chunk, bad = [], []
        _score(work, predictor, reference, chunk, bad, progress)


def _score(
    work: ReconcileState,
    predictor: Predictor,
    reference: DriftBaseline | None,
    chunk: list[_Photo],
    bad: list[_Row],
    progress: ProgressLog,
) -> None:
    left = list(chunk)
    rows = [*bad]
    while left:
        try:
            seen = predictor.observe([photo for _, photo, _ in left])
        except RowError as error:  # its header is valid, its pixels are not
            rows.append((None, None, DAMAGED, left.pop(error.row)[0]))
            continue
        positions, _, sizes = zip(*left, strict=True)
        distance = np.full(len(left), np.nan) if reference is None else reference.distance(seen.features, len(left))
        statistics = rounded(np.column_stack([sizes, seen.brightness, seen.sharpness, distance]))
        blobs = ((row.tobytes() for row in each) for each in (rounded(seen.probabilities), statistics))
        rows += [(*pair, "", position) for *pair, position in zip(*blobs, positions, strict=True)]
        break
    work.update(("probabilities", "statistics", "photo_problem"), rows)
    sizes_bytes = {position: len(photo) for position, photo, _ in chunk}
    for *_, problem, position in rows:
        progress.step(sizes_bytes.get(position, 0), bool(problem))


def check_drift(
    state: ReconcileState, baseline: DriftBaseline | None, counts: Counts, limits: DriftLimits
) -> dict | None:
    """Compares the photos, predictions and records with the model's drift baseline, a page at a time.

    As in the baseline, only bins count whose record is one of the model's
    counts and that the model was not trained on.

    Args:
        state: The bins, with their verdicts.
        baseline: The model's; None where it has none.
        counts: The model's classes.
        limits: From which difference on a statistic has drifted.

    Returns:
        `drift.drift_of`; None without a baseline.
    """
    if baseline is None:
        _log.warning(
            "drift: the model must have a drift baseline, got a version registered before there were any. "
            "Run `bincount evaluate` and `bincount register` for its run again, or train a new model."
        )
        return None
    now = {name: each.emptied() for name, each in baseline.histograms.items()}
    values = np.asarray(counts.values)
    for page in state.pages("recorded, probabilities, statistics", _COMPARABLE):
        _, recorded, blobs, statistics = zip(*page, strict=True)
        probabilities = np.stack([np.frombuffer(blob) for blob in blobs])
        facts = {
            "predicted": values[probabilities.argmax(axis=1)],
            "recorded": np.minimum(recorded, values[-1]),  # an open class includes all counts above it
            "confidence": probabilities.max(axis=1),
            **dict(zip(PHOTO_STATISTICS, np.stack([np.frombuffer(blob) for blob in statistics]).T, strict=True)),
        }
        for name, histogram in now.items():
            now[name] = histogram.plus(facts[name][np.isfinite(facts[name])])
    drift = drift_of(baseline.histograms, now, limits)
    for name in drift["beyond"]:
        _log.warning("drift: %s", sentence_of(name, drift["facts"][name]))
    if not drift["beyond"]:
        _log.info("drift: none in %d bins", drift["compared"])
    return drift
