"""Bins straight from their source: what they record, and what a model says of their photos."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bincount.core.counts import Counts
from bincount.core.errors import DataError
from bincount.core.groups import place_of
from bincount.core.photos import size_of_photo
from bincount.core.plan import draw_order
from bincount.core.records import parse_metadata
from bincount.core.rejected import BadObject, Rejected
from bincount.edge.store import Fetched, Store
from bincount.steps.ingesting.asked import Bounds
from bincount.steps.ingesting.candidates import find_candidates
from bincount.steps.ingesting.progress import Progress

if TYPE_CHECKING:
    from bincount.learn.predict import Predictor

_log = logging.getLogger(__name__)
_BATCH = 64


@dataclass
class Bins:
    """What the metadata of some bins of a source say; no photo is fetched for it.

    Attributes:
        recorded: Recorded count of each wanted bin, in `place_of` order.
        skus: Products of every bin that was looked at and is sound.
        rejected: What was set aside.
        others: How many bins have a count that is not wanted.
    """

    recorded: dict[str, int] = field(default_factory=dict)
    skus: dict[str, tuple[str, ...]] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)
    others: int = 0


class Predicted(NamedTuple):
    """What a model says of one photo.

    Attributes:
        id: The bin's id.
        photo: The photo's bytes.
        etag: The store's tag of it, "" where it has none.
        width_px: Its width.
        height_px: Its height.
        probabilities: (C,) float32.
    """

    id: str
    photo: bytes
    etag: str
    width_px: int
    height_px: int
    probabilities: np.ndarray


def read_bins(store: Store, *, ids: str | None, counts: Counts | None, limit: int | None = None) -> Bins:
    """Reads what bins record.

    Args:
        store: Where they are.
        ids: A file of ids, a range such as "00001-01999", or None for all.
        counts: Which counts are wanted, None for all of them.
        limit: How many wanted bins to draw, as `ingest` draws them; None for all.

    Raises:
        ConfigError: If `ids` is no such thing, or the source holds no bin.
        StoreError: If the source does not answer.
    """
    candidates, bins = find_candidates(store, ids), Bins()
    order = candidates.ids if limit is None else draw_order(candidates.ids, seed=0)
    whole = [bin_id for bin_id in order if bin_id not in candidates.halves]
    bins.rejected = [Rejected(bin_id, candidates.halves[bin_id]) for bin_id in order if bin_id in candidates.halves]
    keys = (f"metadata/{bin_id}.json" for bin_id in whole)
    with Progress("metadata", len(whole)) as progress, closing(store.fetch(keys, workers=Bounds.workers)) as answers:
        for bin_id, answer in zip(whole, answers, strict=False):
            progress.step(len(answer.data or b""))
            if answer.data is None:
                bins.rejected.append(Rejected(bin_id, f"metadata is {answer.problem}"))
                continue
            try:
                metadata = parse_metadata(bin_id, answer.data)
            except BadObject as error:
                bins.rejected.append(Rejected(bin_id, error.reason, str(error)))
                continue
            bins.skus[bin_id] = metadata.skus
            if counts is not None and counts.index_of(metadata.recorded) is None:
                bins.others += 1
                continue
            bins.recorded[bin_id] = metadata.recorded
            if len(bins.recorded) == limit:
                break
    bins.recorded = {bin_id: bins.recorded[bin_id] for bin_id in sorted(bins.recorded, key=place_of)}
    return bins


def predict_bins(store: Store, ids: Sequence[str], predictor: Predictor) -> Iterator[Predicted | Rejected]:
    """Fetches photos and says what a model makes of them, or why one is set aside.

    Later photos are fetched while the model works; no more than a thousand are held at a time.

    Args:
        store: Where the photos are.
        ids: Ids of the bins.
        predictor: The model.

    Yields:
        One for each bin, in the order of `ids`.

    Raises:
        StoreError: If the source does not answer.
    """
    keys = (f"bin-images/{bin_id}.jpg" for bin_id in ids)
    with Progress("photos", len(ids)) as progress, closing(store.fetch(keys, workers=Bounds.workers)) as answers:
        remaining = zip(ids, answers, strict=False)
        while batch := list(islice(remaining, _BATCH)):
            for one, (_, answer) in zip(_predict(batch, predictor), batch, strict=True):
                progress.step(len(answer.data or b""), isinstance(one, Rejected))
                yield one


def _predict(batch: Sequence[tuple[str, Fetched]], predictor: Predictor) -> list[Predicted | Rejected]:
    judged = [_look(bin_id, answer) for bin_id, answer in batch]
    sound = [one for one in judged if not isinstance(one, Rejected)]
    rows = iter(_distributions(sound, predictor))
    return [one if isinstance(one, Rejected) else _with(one, next(rows)) for one in judged]


def _look(bin_id: str, answer: Fetched) -> Predicted | Rejected:
    """The photo without its distribution, or why it is set aside."""
    if answer.data is None:
        return Rejected(bin_id, f"photo is {answer.problem}")
    try:
        return Predicted(bin_id, answer.data, answer.etag, *size_of_photo(bin_id, answer.data), np.empty(0))
    except BadObject as error:
        return Rejected(bin_id, error.reason, str(error))


def _distributions(sound: Sequence[Predicted], predictor: Predictor) -> Sequence[np.ndarray | DataError]:
    if not sound:
        return []
    try:
        return list(predictor.predict([one.photo for one in sound]))
    except DataError as error:  # a header promised more than the pixels hold: find out whose
        if len(sound) == 1:
            return [error]
        return [row for one in sound for row in _distributions([one], predictor)]


def _with(one: Predicted, row: np.ndarray | DataError) -> Predicted | Rejected:
    if isinstance(row, DataError):
        return Rejected(one.id, "photo cannot be decoded", str(row))
    return one._replace(probabilities=row)
