"""Evaluation of any registered model on the bins of any source, streamed from the store."""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bincount.config import FetchConfig
from bincount.counts import Counts
from bincount.dataset.bin_reader import metadata_of, photo_of
from bincount.dataset.candidates import check_ids, find_candidates
from bincount.dataset.contents import Product, contents_of
from bincount.dataset.groups import groups_of, sort_key_of
from bincount.dataset.keys import metadata_key, photo_key
from bincount.dataset.manifest import Record, read_manifest
from bincount.dataset.pairs import pairs_of
from bincount.dataset.photo_check import DAMAGED
from bincount.dataset.placement import draw_order
from bincount.dataset.rejection import Rejection
from bincount.dataset.split import DEVELOPMENT_PARTS, SEEN_PARTS, part_of
from bincount.errors import ConfigError, DataError
from bincount.evaluate.contents_metrics import evaluate_contents
from bincount.evaluate.count_metrics import evaluate_predictions
from bincount.evaluate.leakage import is_another_bucket, learned_bins
from bincount.evaluate.pair_metrics import evaluate_pairs
from bincount.mismatch.calibration import Calibration
from bincount.mismatch.change import ChangeHead
from bincount.mismatch.contents import ContentsJudge
from bincount.mismatch.sums import SumsHead
from bincount.progress import ProgressLog
from bincount.settings import Settings
from bincount.store.interface import FetchedObject, Store
from bincount.store.open_store import open_store
from bincount.tracking import model_registry

if TYPE_CHECKING:
    from bincount.learn.predictor import Predictor

_log = logging.getLogger(__name__)


def evaluate_source(
    settings: Settings,
    *,
    model: str,
    source: str,
    ids: str | None = None,
    counts: str | None = None,
    limit: int | None = None,
) -> dict:
    """Scores a registered model on the bins of a source, except those that it learned from.

    Nothing is written to disk: metadata are read first, then photos are
    predicted as they arrive.

    Args:
        settings: Names tracking server, buckets and the workspace with the model's manifest.
        model: "models:/bincount/VERSION" or "models:/bincount@ALIAS".
        source: "s3://BUCKET" or a folder in the bucket's layout.
        ids: A file of ids or a range such as "00001-01999"; None lists the source.
        counts: Only bins with these counts, such as "1-5", all of them among the model's; None: all of the model's.
        limit: Number of bins to draw, None for all.

    Returns:
        exact, within_one, mae, rmse, nll, rps, ece and the other `metrics` of
        `evaluate.count_metrics.evaluate_predictions`, flat, beside its intervals, baselines and
        tables; `pairs` (`pair_metrics.evaluate_pairs`) where the model has a change head and the bins hold pairs;
        `contents` (`contents_metrics.evaluate_contents`) where it has a judge of contents;
        `model`, `source`, `counts`, `set_aside` (bins by reason) and
        `learned_from`: "known", or "unknown" where the model's manifest is not in this workspace.

    Raises:
        ConfigError: If there is no such model, source or count.
        DataError: If no bin is left to score.
        StoreError: If the source or the tracking server does not answer.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit: must be 1 or more, got {limit!r}. Leave it out for all bins.")
    store = open_store(source, settings)
    version = model_registry.version_of(settings, model_registry.version_named(settings, model))
    with tempfile.TemporaryDirectory() as folder:
        fetched = model_registry.fetch_model(settings, version.version, Path(folder))
        from bincount.learn.predictor import Predictor

        predictor, head, calibration = Predictor(fetched), ChangeHead.read(fetched), Calibration.read(fetched)
        sums_head, judge = SumsHead.read(fetched), ContentsJudge.read(fetched)
    wanted = _counts_of(counts, predictor.counts)
    bins = read_bins(store, ids=ids, counts=wanted, limit=limit, contents=judge is not None)
    learned = _learned(settings, predictor.facts["manifest"], version.tags.get("bincount.source"), store.source, bins)
    excluded = learned_bins(bins.recorded, bins.skus, learned) if learned else {}
    records, probabilities, sharpness, features, sums, rejected = _predictions(
        store, bins, excluded, predictor, sums_head
    )
    set_aside = Counter([*excluded.values(), *(one.reason for one in rejected)])
    if bins.others:
        set_aside[f"its count is none of {counts or predictor.counts}"] = bins.others
    if not records:
        reasons = ", ".join(f"{number} x {reason}" for reason, number in set_aside.most_common()) or "no bins"
        raise DataError(f"{store.source}: must hold a bin to score, got none ({reasons}). Name other bins.")
    evaluation = evaluate_predictions(probabilities, records, predictor.counts, sharpness)
    pairs = pairs_of(records) if head and calibration else []
    if head and calibration and pairs:
        earlier, later = (np.stack([features[records[pair[end]].id] for pair in pairs]) for end in (0, 1))
        evaluation["pairs"] = evaluate_pairs(
            head, pairs, earlier, later, probabilities, records, predictor.counts, calibration.prior
        )
    if judge and calibration and sums is not None:
        contents = [bins.contents[record.id] for record in records]
        figures = evaluate_contents(judge, contents, sums, probabilities, records, predictor.counts, calibration.prior)
        evaluation |= {"contents": figures} if figures else {}
    _log.info("scored %d bins of %s with version %s", len(records), store.source, version.version)
    return {
        **evaluation.pop("metrics"),
        "model": f"models:/{model_registry.MODEL}/{version.version}",
        "source": store.source,
        "counts": str(predictor.counts),
        "set_aside": dict(set_aside.most_common()),
        "learned_from": "unknown" if learned is None else "known",
        **evaluation,
    }


def _counts_of(counts: str | None, of_model: Counts) -> Counts:
    wanted = Counts.parse(counts) if counts else of_model
    unsupported = set(zip(wanted.values, wanted.names, strict=True)) - set(
        zip(of_model.values, of_model.names, strict=True)
    )
    if unsupported:
        raise ConfigError(
            f"--counts: must be among the model's counts, {of_model}, got {counts!r}. Leave it out for all of them."
        )
    return wanted


def _learned(
    settings: Settings, manifest: str, learned_source: str | None, source: str, bins: Bins
) -> Callable[[str], bool] | None:
    """True if the model learned from the bin of an id; None where that is unknown."""
    try:
        records = read_manifest(settings, manifest).records
    except DataError:
        if learned_source == source:  # a bin's part follows from its id, so it can have learned from no other
            return lambda bin_id: part_of(bin_id) in DEVELOPMENT_PARTS
        _log.warning(
            "manifest %s is not in this workspace: bins that the model learned from cannot be set aside", manifest
        )
        return None
    learned: Mapping[str, Record] = {record.id: record for record in records if record.part in SEEN_PARTS}
    if learned_source != source and is_another_bucket(bins.recorded, bins.skus, learned):
        _log.info("%s: its ids name other bins than those that the model learned from", source)
        return lambda bin_id: False
    return learned.__contains__


def _predictions(
    store: Store, bins: Bins, excluded: Collection[str], predictor: Predictor, sums_head: SumsHead | None
) -> tuple[list[Record], np.ndarray, list[float], dict[str, np.ndarray], np.ndarray | None, list[Rejection]]:
    """Records, (N, C) distributions and sharpness of the scored bins, features by id, sums, and the rejected bins.

    Features are kept of groups with several photos alone; `sums` is what they tell of the products of each record.
    """
    from bincount.learn.images import sharpness_of

    groups = groups_of(bins.skus, bins.skus)
    ids = [bin_id for bin_id in bins.recorded if bin_id not in excluded]
    records: list[Record] = []
    rows: list[np.ndarray] = []
    sharpness: list[float] = []
    features: dict[str, np.ndarray] = {}
    sums: list[np.ndarray] = []
    in_group = Counter(groups[bin_id] for bin_id in ids)
    rejected = list(bins.rejected)
    for one in predict_bins(store, ids, predictor):
        if isinstance(one, Rejection):
            _log.warning("bin %s is set aside: %s", one.id, one.reason)
            rejected.append(one)
            continue
        records.append(_record(one, groups[one.id], bins))
        rows.append(one.probabilities)
        sharpness.append(sharpness_of(one.photo))
        if one.features is not None and in_group[groups[one.id]] > 1:
            features[one.id] = one.features
        if one.features is not None and sums_head:
            sums.append(sums_head.predict(one.features))
    distributions = np.stack(rows) if rows else np.empty(0)
    return records, distributions, sharpness, features, np.stack(sums) if sums else None, rejected


def _record(one: Predicted, group: str, bins: Bins) -> Record:
    return Record(
        id=one.id,
        group=group,
        recorded=bins.recorded[one.id],
        part="",  # in no manifest and no shard
        n_skus=len(bins.skus[one.id]),
        width_px=one.width_px,
        height_px=one.height_px,
        size_bytes=len(one.photo),
        etag=one.etag,
        shard=-1,
        offset=-1,
    )


_BATCH = 64


@dataclass
class Bins:
    """The metadata of some bins of a source, read without their photos.

    Attributes:
        recorded: Recorded count of each wanted bin, in `sort_key_of` order.
        skus: Products of every bin with valid metadata.
        rejected: What was set aside.
        others: How many bins have a count that is not wanted.
        contents: Products of each wanted bin, if they were asked for.
    """

    recorded: dict[str, int] = field(default_factory=dict)
    skus: dict[str, tuple[str, ...]] = field(default_factory=dict)
    rejected: list[Rejection] = field(default_factory=list)
    others: int = 0
    contents: dict[str, tuple[Product, ...]] = field(default_factory=dict)


class Predicted(NamedTuple):
    """A model's prediction for one photo.

    Attributes:
        id: The bin's id.
        photo: The photo's bytes.
        etag: The store's tag of it, "" where it has none.
        width_px: Its width.
        height_px: Its height.
        probabilities: (C,) float32.
        features: (D,) float32, the input of the model's head; None if the network does not give them.
    """

    id: str
    photo: bytes
    etag: str
    width_px: int
    height_px: int
    probabilities: np.ndarray
    features: np.ndarray | None = None


def read_bins(
    store: Store, *, ids: str | None, counts: Counts | None, limit: int | None = None, contents: bool = False
) -> Bins:
    """Reads what bins record.

    Args:
        store: Where they are.
        ids: A file of ids, a range such as "00001-01999", or None for all.
        counts: Which counts are wanted, None for all of them.
        limit: How many wanted bins to draw, as `ingest` draws them; None for all.
        contents: Whether to keep the products of the wanted bins, with their sizes.

    Raises:
        ConfigError: If `ids` is no such thing, or the source holds no bin.
        DataError: If ids lost their leading zeros.
        StoreError: If the source does not answer.
    """
    candidates, bins = find_candidates(store, ids), Bins()
    order = candidates.ids if limit is None else draw_order(candidates.ids, seed=0)
    complete = [bin_id for bin_id in order if bin_id not in candidates.incomplete]
    bins.rejected = [
        Rejection(bin_id, candidates.incomplete[bin_id]) for bin_id in order if bin_id in candidates.incomplete
    ]
    keys = map(metadata_key, complete)
    with (
        ProgressLog("metadata", len(complete)) as progress,
        closing(store.fetch(keys, workers=FetchConfig.workers)) as answers,
    ):
        for bin_id, answer in zip(complete, answers, strict=False):
            progress.step(len(answer.data or b""))
            metadata = metadata_of(bin_id, answer)
            if isinstance(metadata, Rejection):
                bins.rejected.append(metadata)
                continue
            bins.skus[bin_id] = metadata.skus
            if counts is not None and counts.index_of(metadata.recorded) is None:
                bins.others += 1
                continue
            bins.recorded[bin_id] = metadata.recorded
            if contents and answer.data is not None:
                bins.contents[bin_id] = contents_of(answer.data)
            if len(bins.recorded) == limit:
                break
    check_ids(store, ids, candidates.ids, bins.rejected)
    bins.recorded = {bin_id: bins.recorded[bin_id] for bin_id in sorted(bins.recorded, key=sort_key_of)}
    return bins


def predict_bins(store: Store, ids: Sequence[str], predictor: Predictor) -> Iterator[Predicted | Rejection]:
    """Fetches photos and predicts their counts; a photo that is set aside gives a rejection with its reason.

    Later photos are fetched while the model computes; no more than a thousand are held at a time.

    Args:
        store: Where the photos are.
        ids: Ids of the bins.
        predictor: The model.

    Yields:
        One for each bin, in the order of `ids`.

    Raises:
        StoreError: If the source does not answer.
    """
    keys = map(photo_key, ids)
    with (
        ProgressLog("photos", len(ids)) as progress,
        closing(store.fetch(keys, workers=FetchConfig.workers)) as answers,
    ):
        remaining = zip(ids, answers, strict=False)
        while batch := list(islice(remaining, _BATCH)):
            for one, (_, answer) in zip(_predict(batch, predictor), batch, strict=True):
                progress.step(len(answer.data or b""), isinstance(one, Rejection))
                yield one


def _predict(batch: Sequence[tuple[str, FetchedObject]], predictor: Predictor) -> list[Predicted | Rejection]:
    judged = [_look(bin_id, answer) for bin_id, answer in batch]
    readable = [one for one in judged if not isinstance(one, Rejection)]
    answers = iter(_observe(readable, predictor))
    return [one if isinstance(one, Rejection) else next(answers) for one in judged]


def _look(bin_id: str, answer: FetchedObject) -> Predicted | Rejection:
    """The photo without its distribution, or why it is set aside."""
    photo = photo_of(bin_id, answer)
    if isinstance(photo, Rejection):
        return photo
    return Predicted(bin_id, photo.data, photo.etag, *photo.header.shown_px, np.empty(0))


def _observe(photos: Sequence[Predicted], predictor: Predictor) -> list[Predicted | Rejection]:
    seen, damaged = predictor.observe_readable([one.photo for one in photos])
    answers: dict[str, Predicted | Rejection] = {
        photos[row].id: Rejection(photos[row].id, DAMAGED, str(error)) for row, error in damaged.items()
    }
    if seen is not None:
        left = [one for row, one in enumerate(photos) if row not in damaged]
        features = [None] * len(left) if seen.features is None else seen.features
        rows = zip(left, seen.probabilities, features, strict=True)
        answers |= {one.id: one._replace(probabilities=row, features=own) for one, row, own in rows}
    return [answers[one.id] for one in photos]
