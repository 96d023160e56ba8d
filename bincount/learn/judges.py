"""Training of the judges of records that use more than one photo's count.

They use the change since an earlier photo of the bin, and the products on the record.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bincount.counts import Counts
from bincount.dataset.contents import Product, sums_of
from bincount.dataset.groups import block_of
from bincount.dataset.manifest import Record
from bincount.dataset.pairs import pairs_of
from bincount.dataset.shards import read_contents, shard_paths
from bincount.dataset.split import LEARNED_PARTS
from bincount.learn.feature_cache import CachedFeatures
from bincount.mismatch.calibration import prior_of
from bincount.mismatch.change import ChangeHead
from bincount.mismatch.contents import ContentsJudge
from bincount.mismatch.sums import SumsHead
from bincount.settings import Settings

if TYPE_CHECKING:
    import keras

_log = logging.getLogger(__name__)

_MOST_BINS = 20_000
"""Largest number of bins of a part from which contents are learned: more take memory and add nothing."""


class Judges(NamedTuple):
    """The judges of one version of a model; each is None where there was too little data to learn it."""

    change: ChangeHead | None
    sums: SumsHead | None
    contents: ContentsJudge | None


class _Part(NamedTuple):
    """The bins of one part, evenly spaced ones where there are very many, and how to read the features of any."""

    every: list[Record]
    rows: np.ndarray
    contents: list[tuple[Product, ...]]
    classes: np.ndarray
    features_of: Callable[[np.ndarray], np.ndarray]

    @property
    def records(self) -> list[Record]:
        return [self.every[row] for row in self.rows]


def learn_judges(
    settings: Settings,
    cached: CachedFeatures,
    predict: Callable[[np.ndarray], np.ndarray],
    *,
    fine_width: int,
    fine_tuned: keras.Model | None,
    sums: SumsHead | None,
) -> Judges:
    """Learns from the parts that the model learned from, and calibrates on the calibration part.

    Args:
        settings: Where shards are.
        cached: The bins, and the features of the frozen network.
        predict: Probabilities (N, C) of the model for features (N, D).
        fine_width: How many of the first features the change is predicted from (`backbone.fine_width`). Features of
            the last stages predict it less well; if these stages were trained, they overfit the training bins
            (docs/log/learn.md).
        fine_tuned: The fine-tuned network, with which the features are computed; None for the frozen one.
        sums: The sums head that was trained together with the fine-tuned network; None if there is none.
    """
    counts = cached.manifest.counts
    parts = {part: _read_part(settings, cached, part, fine_tuned) for part in (*LEARNED_PARTS, "calibration")}
    learned, held_out = [parts[part] for part in LEARNED_PARTS], parts["calibration"]
    prior = prior_of(parts["train"].classes, counts)
    change = _learn_change(learned, held_out, predict, prior, counts, width=fine_width)
    if sums is None and not fine_tuned:
        features = np.concatenate([part.features_of(part.rows) for part in learned])
        known = np.array([sums_of(products) for part in learned for products in part.contents])
        sums = SumsHead.fit(features, known, [block_of(record.id) for part in learned for record in part.records])
    contents = _learn_contents(learned, held_out, predict, sums, prior, counts) if sums else None
    return Judges(change, sums, contents)


def _read_part(settings: Settings, cached: CachedFeatures, part: str, fine_tuned: keras.Model | None) -> _Part:
    counts, records = cached.manifest.counts, cached.manifest.part(part)
    rows = np.arange(len(records))[:: -(-len(records) // _MOST_BINS) or 1]
    some = [records[row] for row in rows]
    contents = read_contents(some, shard_paths(settings, cached.manifest.shards))
    classes = np.array([counts.index_of(record.recorded) for record in some], int)
    if fine_tuned is None:
        examples = cached.examples(part)
        return _Part(records, rows, contents, classes, lambda some: examples.features[some].mean(1, dtype=np.float32))
    from bincount.learn.network_training import features_of

    photos = cached.photos(settings, part, counts=counts)
    return _Part(records, rows, contents, classes, partial(features_of, fine_tuned, photos))


def _learn_change(
    learned: list[_Part],
    held_out: _Part,
    predict: Callable[[np.ndarray], np.ndarray],
    prior: np.ndarray,
    counts: Counts,
    *,
    width: int,
) -> ChangeHead | None:
    pairs = join_pairs(*(read_pairs(part.every, part.features_of, counts) for part in learned))
    head = ChangeHead.fit(*pairs[:5], counts, width=width)
    if head is None:
        _log.info("two photos: %d pairs are too few to learn from", len(pairs.blocks))
        return None
    _log.info("two photos: learned from %d pairs", head.pairs)
    held = read_pairs(held_out.every, held_out.features_of, counts)
    return head.calibrated(*held[:4], held.groups, predict(held.later), prior) if held.blocks else head


def _learn_contents(
    learned: list[_Part],
    held_out: _Part,
    predict: Callable[[np.ndarray], np.ndarray],
    sums: SumsHead,
    prior: np.ndarray,
    counts: Counts,
) -> ContentsJudge | None:
    listed = [products for part in learned for products in part.contents]
    judge = ContentsJudge.fit(listed, np.concatenate([part.classes for part in learned]), counts)
    if judge is not None and len(held_out.rows):
        features, records = held_out.features_of(held_out.rows), held_out.records
        judge = judge.calibrated(
            held_out.contents,
            held_out.classes,
            [record.group for record in records],
            predict(features),
            sums.predict(features),
            prior,
            np.array(pairs_of(records), int).reshape(-1, 2),
        )
    _log.info("contents: %s", "learned" if judge else "too few records name products with sizes to learn from")
    return judge


_MOST_PAIRS = 4000
"""Largest number of pairs of a part: pairs of the whole bucket would take gigabytes, their regressions minutes."""


class PairExamples(NamedTuple):
    """N pairs of photos of one bin.

    Attributes:
        earlier: (N, D) float32 features of the earlier photos, both views averaged.
        later: (N, D) float32 features of the later ones.
        before: (N,) class of the count before.
        after: (N,) class of the count after.
        blocks: (N,) name of each pair's block of ids.
        groups: (N,) the group of each.
    """

    earlier: np.ndarray
    later: np.ndarray
    before: np.ndarray
    after: np.ndarray
    blocks: list[str]
    groups: list[str]


def read_pairs(
    records: Sequence[Record], features_of: Callable[[np.ndarray], np.ndarray], counts: Counts
) -> PairExamples:
    """Finds the pairs of a part and reads their features; evenly spaced ones where there are very many.

    Args:
        records: The bins of the part, in the order of the manifest.
        features_of: Features (n, D) of n of these bins, given by row.
        counts: The classes.
    """
    pairs = pairs_of(records)
    pairs = pairs[:: -(-len(pairs) // _MOST_PAIRS) or 1]
    rows, place = np.unique(np.array(pairs, int).reshape(-1, 2), return_inverse=True)
    features = features_of(rows).astype(np.float32) if len(rows) else np.empty((0, 0), np.float32)
    ends = place.reshape(-1, 2)
    classes = np.array([counts.index_of(records[row].recorded) for row in rows], int)
    later = [records[pair.after] for pair in pairs]
    return PairExamples(
        features[ends[:, 0]],
        features[ends[:, 1]],
        classes[ends[:, 0]],
        classes[ends[:, 1]],
        [block_of(record.id) for record in later],
        [record.group for record in later],
    )


def join_pairs(first: PairExamples, second: PairExamples) -> PairExamples:
    """The pairs of two parts, one after the other."""
    if not first.blocks or not second.blocks:
        return first if first.blocks else second
    return PairExamples(
        np.concatenate([first.earlier, second.earlier]),
        np.concatenate([first.later, second.later]),
        np.concatenate([first.before, second.before]),
        np.concatenate([first.after, second.after]),
        first.blocks + second.blocks,
        first.groups + second.groups,
    )
