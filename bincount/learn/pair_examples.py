"""Pairs of photos of one bin, as a change head learns from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from bincount.counts import Counts
from bincount.dataset.groups import block_of
from bincount.dataset.manifest import Record
from bincount.dataset.pairs import pairs_of

_MOST_PAIRS = 4000
"""Of a part: features of all pairs of the whole bucket would take gigabytes, and the regressions minutes."""


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
