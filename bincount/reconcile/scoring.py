"""Scores photos with the model and compares their statistics with the model's drift baseline."""

from __future__ import annotations

import logging
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from bincount.config import DriftLimits
from bincount.counts import Counts
from bincount.dataset.bin_reader import photo_of
from bincount.dataset.contents import decode_contents, sums_of
from bincount.dataset.keys import photo_key
from bincount.dataset.metadata import LARGEST_COUNT
from bincount.dataset.photo_check import DAMAGED
from bincount.dataset.rejection import Rejection
from bincount.evaluate.batch_inference import rounded
from bincount.evaluate.drift import drift_of, sentence_of
from bincount.evaluate.drift_baseline import DriftBaseline
from bincount.mismatch.change import NO_HEAD, SAME_COUNT, ChangeHead
from bincount.mismatch.contents import NO_JUDGE, ContentsJudge, problem_of, weight_problem_of
from bincount.mismatch.sums import SumsHead
from bincount.progress import ProgressLog
from bincount.reconcile.state import CONTENTS, PHOTO, PHOTOS, ReconcileState
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

_UNCOMPARED = "before_problem = '' AND counted_before IS NOT NULL AND features IS NOT NULL"
_LITRES = 0.016387064  # a cubic inch
_CYCLE = "before leads back to the bin itself"

_Photo = tuple[int, bytes, tuple[int, int], bool]  # position, file, width and height, whether an earlier one is named
_Row = tuple[bytes | None, bytes | None, bytes | None, bytes | None, str, int]


def score_photos(
    work: ReconcileState,
    store: Store,
    predictor: Predictor,
    reference: DriftBaseline | None,
    sums: SumsHead | None = None,
) -> None:
    """Predicts count probabilities for every photo without them, 256 photos at a time.

    Each photo's `PHOTO_STATISTICS`, and the sums of its products as predicted
    by `sums`, are stored with its probabilities. A run that was killed resumes
    at the end of a chunk, so it forms the same chunks as an uninterrupted run.

    Raises:
        StoreError: If the source does not answer; scored photos stay.
    """
    unseen = work.count(_UNSEEN)
    if not unseen:
        return
    chunk: list[_Photo] = []
    bad: list[_Row] = []
    columns = "id, counted_before IS NOT NULL AND before_problem = ''"
    rows = work.fetch(store, columns, _UNSEEN, photo_key, workers=_WORKERS)
    with ProgressLog("photos", unseen) as progress, closing(rows):
        for (position, bin_id, follows), answer in rows:
            photo = photo_of(bin_id, answer)
            if isinstance(photo, Rejection):
                bad.append((None, None, None, None, photo.reason, position))
            else:
                chunk.append((position, photo.data, photo.header.shown_px, follows))
            if len(chunk) + len(bad) == _CHUNK:
                _score(work, predictor, reference, sums, chunk, bad, progress)
                chunk, bad = [], []
        _score(work, predictor, reference, sums, chunk, bad, progress)


def _score(
    work: ReconcileState,
    predictor: Predictor,
    reference: DriftBaseline | None,
    sums: SumsHead | None,
    chunk: list[_Photo],
    bad: list[_Row],
    progress: ProgressLog,
) -> None:
    seen, damaged = predictor.observe_readable([photo for _, photo, *_ in chunk])
    rows = [*bad, *((None, None, None, None, DAMAGED, chunk[row][0]) for row in damaged)]
    if seen is not None:
        left = [one for row, one in enumerate(chunk) if row not in damaged]
        positions, _, sizes, followed = zip(*left, strict=True)
        distance = np.full(len(left), np.nan) if reference is None else reference.distance(seen.features, len(left))
        statistics = rounded(np.column_stack([sizes, seen.brightness, seen.sharpness, distance]))
        blobs = ((row.tobytes() for row in each) for each in (rounded(seen.probabilities), statistics))
        features = [
            seen.features[row].tobytes() if follows and seen.features is not None else None
            for row, follows in enumerate(followed)
        ]
        summed: list[bytes | None] = [None] * len(left)
        if sums is not None and seen.features is not None:
            summed = [row.tobytes() for row in rounded(sums.predict(seen.features))]
        rows += [(*blob, "", position) for *blob, position in zip(*blobs, features, summed, positions, strict=True)]
    work.update(("probabilities", "statistics", "features", "sums", "photo_problem"), rows)
    sizes_bytes = {position: len(photo) for position, photo, *_ in chunk}
    for *_, problem, position in rows:
        progress.step(sizes_bytes.get(position, 0), bool(problem))


def score_pairs(
    work: ReconcileState, store: Store, predictor: Predictor, head: ChangeHead | None, prior: np.ndarray
) -> None:
    """Predicts the count after from both photos and the count before, 256 pairs at a time.

    A record that names an earlier photo which cannot be used keeps the distribution of its own photo alone, and
    the reason.

    Raises:
        StoreError: If the source does not answer; what was compared stays.
    """
    if not work.count("before <> ''"):
        return
    if head is None:
        work.exclude_before("before_problem = ''", NO_HEAD)
        return
    counts = predictor.counts
    highest = LARGEST_COUNT if counts.open_top else counts.high
    work.exclude_before(
        f"before_problem = '' AND counted_before NOT BETWEEN {counts.low} AND {highest}",
        f"counted_before is none of the model's counts, {counts}",
    )
    if not head.knows_unchanged:
        work.exclude_before("before_problem = '' AND recorded = counted_before", SAME_COUNT)
    work.update(("before_problem",), [(_CYCLE, position) for position in work.cycles()])
    unseen = work.count(_UNCOMPARED)
    chunk: list[tuple] = []
    columns = "before, counted_before, features, probabilities"
    rows = work.fetch(store, columns, _UNCOMPARED, photo_key, workers=_WORKERS)
    with ProgressLog("earlier photos", unseen) as progress, closing(rows):
        for (position, before, *facts), answer in rows:
            photo = photo_of(before, answer)
            progress.step(len(answer.data or b""), isinstance(photo, Rejection))
            chunk.append((position, photo, *facts))
            if len(chunk) == _CHUNK:
                _compare(work, predictor, head, prior, chunk)
                chunk = []
        _compare(work, predictor, head, prior, chunk)
    used = work.count("joint IS NOT NULL")
    _log.info("earlier photos: used for %d of %d records that name one", used, work.count("before <> ''"))


def _compare(
    work: ReconcileState, predictor: Predictor, head: ChangeHead, prior: np.ndarray, chunk: list[tuple]
) -> None:
    rows: list[tuple[bytes | None, str, str, int]] = [
        (None, PHOTO, f"the earlier {photo.reason}", at) for at, photo, *_ in chunk if isinstance(photo, Rejection)
    ]
    whole = [row for row in chunk if not isinstance(row[1], Rejection)]
    seen, damaged = predictor.observe_readable([photo.data for _, photo, *_ in whole])
    rows += [(None, PHOTO, f"the earlier {DAMAGED}", whole[row][0]) for row in damaged]
    if seen is not None:
        left = [one for row, one in enumerate(whole) if row not in damaged]
        positions, _, counted, features, blobs = zip(*left, strict=True)
        later = np.stack([np.frombuffer(blob, np.float32) for blob in features])
        earlier = np.asarray(seen.features)
        photo = np.stack([np.frombuffer(blob) for blob in blobs])
        before = np.array([predictor.counts.index_of(value) for value in counted])
        joint, problems = head.joint(earlier, later, before, photo, prior), head.problems_of(earlier, later)
        rows += [
            (None, PHOTO, problem, position) if problem else (row.tobytes(), PHOTOS, "", position)
            for position, problem, row in zip(positions, problems, rounded(joint), strict=True)
        ]
    work.update(("joint", "evidence", "before_problem", "features"), [(*row[:3], None, row[3]) for row in rows])


def judge_contents(work: ReconcileState, judge: ContentsJudge | None, prior: np.ndarray) -> None:
    """Computes distributions from photos and the products on the records together, a page at a time.

    A record whose products cannot be used keeps the distribution of its photos, and the reason.
    """
    named = work.count("contents IS NOT NULL OR contents_problem <> ''")
    if not named:
        return
    if judge is None:
        work.exclude_contents("contents IS NOT NULL", NO_JUDGE)
        return
    columns = "recorded, contents, probabilities, sums, joint, evidence"
    where = "contents IS NOT NULL AND probabilities IS NOT NULL AND recorded IS NOT NULL AND missed IS NULL"
    for page in work.pages(columns, where):
        listed = [(row, decode_contents(row[2])) for row in page]
        problems = [problem_of(products, row[1], judge.counts) for row, products in listed]
        work.update(("contents_problem",), [(why, row[0]) for why, (row, _) in zip(problems, listed, strict=True)])
        usable = [each for each, why in zip(listed, problems, strict=True) if not why]
        if not usable:
            continue
        rows, contents = zip(*usable, strict=True)
        positions, recorded, _, blobs, summed, joints, evidences = zip(*rows, strict=True)
        photo, sums = (np.stack([np.frombuffer(blob) for blob in each]) for each in (blobs, summed))
        pairs = [None if joint is None else np.frombuffer(joint) for joint in joints]
        distributions = rounded(judge.joint(contents, photo, sums, prior, pairs))
        classes = np.array([judge.counts.index_of(value) for value in recorded])
        missed = judge.missed_evidence(contents, classes, photo, sums, prior)
        updates = []
        for row, distribution in enumerate(distributions):
            books, seen = (_LITRES * np.expm1(each) for each in (sums_of(contents[row])[0], sums[row][0]))
            litres = f"the record lists {books:.3g} litres of products, the photo shows about {max(seen, 0):.2g}"
            evidence = f"{evidences[row]} and {CONTENTS}"
            weight_problem = weight_problem_of(contents[row])
            updates.append(
                (distribution.tobytes(), evidence, float(missed[row]), litres, weight_problem, positions[row])
            )
        work.update(("joint", "evidence", "missed", "litres", "contents_problem"), updates)
    used = work.count("missed IS NOT NULL")
    log = _log.info if used else _log.warning
    log("contents: used for %d of %d records that name products", used, named)


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
        limits: Differences from the baseline above which a statistic has drifted.

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
