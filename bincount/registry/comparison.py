"""Two models side by side, on bins that neither learned from."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from bincount.counts import Counts
from bincount.dataset.groups import place_of
from bincount.dataset.manifest import Record
from bincount.evaluate import metrics
from bincount.evaluate.bootstrap import bootstrap, interval
from bincount.evaluate.evaluation import truth_of
from bincount.registry.gate_rules import Comparison

_SIBLINGS_REACH = 2


def unseen_by_both(records: Sequence[Record], learned: Collection[str]) -> list[Record]:
    """The records whose group has no photo next to a bin that another model learned from.

    Groups are named within one manifest. Across manifests two photos may show
    the same bin if their ids are at most two apart (facts of the bucket: at
    three no pair shares a product).

    Args:
        records: Records of one manifest.
        learned: Ids of the bins the other model learned from.
    """
    near = {
        (family, number + step)
        for family, number, _ in map(place_of, learned)
        for step in range(-_SIBLINGS_REACH, _SIBLINGS_REACH + 1)
    }
    touched = {record.group for record in records if place_of(record.id)[:2] in near}
    return [record for record in records if record.group not in touched]


def compare(
    champion: str,
    records: Sequence[Record],
    challenging: tuple[np.ndarray, Counts],
    defending: tuple[np.ndarray, Counts],
) -> Comparison:
    """Sets a challenger beside the champion on the same bins.

    Models of different counts are compared on all counts that either knows;
    what a model does not know it gives no probability.

    Args:
        champion: The champion's version.
        records: (N,) bins that neither learned from and both can count.
        challenging: The challenger's (N, C) distributions and its counts.
        defending: The champion's.
    """
    if not records:
        return Comparison(champion, 0, (0.0, 0.0), {})
    values = sorted({*challenging[1].values, *defending[1].values})
    axis = Counts(values[0], values[-1])
    ours, theirs = (metrics.embed(probabilities, counts, values) for probabilities, counts in (challenging, defending))
    truth = truth_of([_capped(record, values[-1]) for record in records], axis)
    scored = [metrics.values_per_bin(each, truth, axis)["rps"] for each in (ours, theirs)]
    groups = [record.group for record in records]
    difference = bootstrap(groups, (scored[0] - scored[1])[:, None])[:, 0]
    found = [metrics.counted(each) == truth for each in (ours, theirs)]
    recalls = {
        str(values[index]): (float(found[0][truth == index].mean()), float(found[1][truth == index].mean()))
        for index in np.unique(truth)
    }
    return Comparison(champion, len(records), interval(difference), recalls)


def _capped(record: Record, largest: int) -> Record:
    return replace(record, recorded=min(record.recorded, largest))
