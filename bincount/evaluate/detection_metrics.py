"""Detection of wrong records: ranking metrics on simulated errors in records that are taken for right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bincount.counts import Counts
from bincount.dataset.manifest import Record
from bincount.evaluate.bootstrap import interval
from bincount.mismatch.posterior import ERROR_RATE, posterior_of

SHARES = (0.01, 0.02, 0.05, 0.10, 0.20)
"""Shares of all bins that are counted."""
KINDS = {
    "neighbour": "the record of another photo of the group",
    "one": "one item off",
    "two": "two items off",
    "mixed": "one item off in 7 of 10, two in 3",
    "any": "any other count",
}
PLANTED = 0.10
"""Share of wrong records in simulations of evidence beside the photo, and in benchmarks."""
MISS_COST = 20.0
"""Cost of a missed error, in units of counting one bin."""

_DRAWS = 300


@dataclass(frozen=True)
class WeightedErrors:
    """Each bin with its right record and with all its possible wrong ones, weighted, so that nothing depends on a draw.

    Attributes:
        row: (M,) index of the bin.
        recorded: (M,) recorded count.
        wrong: (M,) whether it is wrong.
        weight: (M,) error rate times the share of this error, or one minus the error rate.
    """

    row: np.ndarray
    recorded: np.ndarray
    wrong: np.ndarray
    weight: np.ndarray


def evaluate_detection(
    probabilities: np.ndarray,
    records: Sequence[Record],
    counts: Counts,
    prior: np.ndarray,
    *,
    error_rate: float = ERROR_RATE,
) -> dict:
    """Ranks right and wrong records and computes ranking metrics.

    Args:
        probabilities: (N, C) predictions for bins that the model did not learn from.
        records: (N,) the bins; their records are taken for right.
        counts: The C classes.
        prior: (C,) class frequencies among the training bins.
        error_rate: Share of records that are wrong.

    Returns:
        `error_rate`, `miss_cost` and, by kind of error (those of `KINDS` that are possible on these bins), `bins`
        and the figures of three rankings: `model`, `image_blind` (by the true error rate of each
        recorded count, the best ranking without photos) and `random`. Figures:
        `auroc`, `auprc`, `expected_cost` a bin, and by share of bins counted (`at`) `precision`, `recall`,
        `lift` and `false_alarms` per 1,000 bins. `intervals` are 95 % over groups, of the model's and the blind
        `auroc` and of their `difference`.
    """
    _, member = np.unique([record.group for record in records], return_inverse=True)
    answer: dict = {"error_rate": error_rate, "miss_cost": MISS_COST, "kinds": {}}
    for kind in KINDS:
        errors = _weighted_errors(kind, records, counts, error_rate)
        if errors is None:
            continue
        posterior = posterior_of(probabilities[errors.row], errors.recorded, counts, prior, error_rate=error_rate)
        scores, blind = posterior.probability, _blind(errors, counts)
        answer["kinds"][kind] = {
            "bins": len(np.unique(errors.row)),
            "model": ranking_figures(scores, errors, errors.weight),
            "image_blind": ranking_figures(blind, errors, errors.weight),
            "random": ranking_figures(np.full(len(scores), error_rate), errors, errors.weight),
            "intervals": auroc_intervals(scores, blind, errors, member[errors.row]),
        }
    return answer


def detection_summary(detection: dict) -> dict[str, float]:
    """The main figures of `evaluate_detection`, flat, as metrics of a run."""
    flat = {}
    for kind, row in detection["kinds"].items():
        flat[f"variance_auroc_{kind}"] = row["model"]["auroc"]
        flat[f"variance_auroc_{kind}_blind"] = row["image_blind"]["auroc"]
        flat[f"variance_lift_{kind}"] = row["model"]["at"]["0.05"]["lift"]
    return flat


def _weighted_errors(kind: str, records: Sequence[Record], counts: Counts, error_rate: float) -> WeightedErrors | None:
    rows: list[tuple[int, int, bool, float]] = []
    for row, wrong in _errors(kind, records, counts):
        if wrong:
            rows.append((row, records[row].recorded, False, 1 - error_rate))
            rows += [(row, count, True, error_rate * part) for count, part in wrong.items()]
    if not rows:
        return None
    return WeightedErrors(*(np.asarray(column) for column in zip(*rows, strict=True)))


def _errors(kind: str, records: Sequence[Record], counts: Counts) -> Iterator[tuple[int, dict[int, float]]]:
    """Index of each bin and the shares of its possible wrong records; counts without a class are left out."""
    members = defaultdict(set)
    for record in records:
        members[record.group].add(record.recorded)

    def shared(wrong: Iterable[int], part: float = 1.0) -> dict[int, float]:
        held = [count for count in wrong if count >= 0 and counts.index_of(count) is not None]
        return {count: part / len(held) for count in held}

    for row, record in enumerate(records):
        right = record.recorded
        one, two = (right - 1, right + 1), (right - 2, right + 2)
        wrong = {
            "neighbour": shared(sorted(members[record.group] - {right})),
            "one": shared(one),
            "two": shared(two),
            "mixed": shared(one, 0.7) | shared(two, 0.3),
            "any": shared(value for value in counts.values if counts.index_of(right) != counts.index_of(value)),
        }[kind]
        yield row, {count: part / sum(wrong.values()) for count, part in wrong.items()}


def _blind(errors: WeightedErrors, counts: Counts) -> np.ndarray:
    """(M,) true error rate of each recorded count."""
    classes = np.asarray([counts.index_of(int(count)) for count in errors.recorded])
    total = np.bincount(classes, errors.weight, len(counts))
    wrong = np.bincount(classes, errors.weight * errors.wrong, len(counts))
    return (wrong / np.maximum(total, 1e-12))[classes]


def ranks_of(scores: np.ndarray) -> np.ndarray:
    """(M,) rank of each score among the distinct ones, the highest first."""
    return np.unique(-np.round(scores, 9), return_inverse=True)[1]


def ranking_figures(scores: np.ndarray, errors: WeightedErrors, weight: np.ndarray) -> dict:
    """The figures of one ranking, as in `evaluate_detection`.

    Args:
        scores: (M,) probability that each record is wrong.
        errors: The right and the wrong records.
        weight: (M,) of each: `errors.weight`, or that of a draw.
    """
    rank = ranks_of(scores)
    wrong = np.bincount(rank, weight * errors.wrong)
    every = np.bincount(rank, weight)
    total, all_wrong = every.sum(), wrong.sum()
    counted, hits_by_rank = every.cumsum(), wrong.cumsum()
    worth = scores * MISS_COST > 1
    missed = (weight * errors.wrong)[~worth].sum()
    at = {}
    for share in SHARES:
        hits = float(np.interp(share * total, [0, *counted], [0, *hits_by_rank]))  # interpolates within equal scores
        precision = hits / (share * total)
        at[f"{share:g}"] = {
            "precision": precision,
            "recall": hits / all_wrong,
            "lift": precision / (all_wrong / total),
            "false_alarms": 1000 * share * (1 - precision),
        }
    return {
        "auroc": _auroc(rank, errors, weight),
        "auprc": float((wrong * hits_by_rank / np.maximum(counted, 1e-12)).sum() / all_wrong),
        "expected_cost": float((weight[worth].sum() + MISS_COST * missed) / total),
        "at": at,
    }


def _auroc(rank: np.ndarray, errors: WeightedErrors, weight: np.ndarray) -> float:
    """Probability that a wrong record ranks before a right one; ties count half.

    From ranks computed once: 300 draws with `sklearn.metrics.roc_auc_score` would sort each time.
    """
    wrong = np.bincount(rank, weight * errors.wrong)
    right = np.bincount(rank, weight * ~errors.wrong)
    after = right.sum() - right.cumsum()
    return float((wrong * (after + right / 2)).sum() / (wrong.sum() * right.sum()))


def auroc_intervals(seen: np.ndarray, blind: np.ndarray, errors: WeightedErrors, member: np.ndarray) -> dict:
    """95 % intervals over groups of the AUROC of two rankings, and of their difference; both share the draws.

    A draw without a wrong record, or without a right one, has no AUROC and is left out.

    Args:
        seen: (M,) scores of the first ranking.
        blind: (M,) scores of the second.
        errors: The right and the wrong records.
        member: (M,) number of each one's group.
    """
    groups, rng = np.unique(member, return_inverse=True)[1], np.random.default_rng(0)
    ranks = ranks_of(seen), ranks_of(blind)
    count = int(groups.max()) + 1
    draws = []
    for _ in range(_DRAWS):
        times = np.bincount(rng.integers(0, count, count), minlength=count)
        weight = errors.weight * times[groups]
        if weight[errors.wrong].any() and weight[~errors.wrong].any():
            draws.append([_auroc(rank, errors, weight) for rank in ranks])
    drawn = np.array(draws)
    return {
        "auroc": interval(drawn[:, 0]),
        "auroc_blind": interval(drawn[:, 1]),
        "difference": interval(drawn[:, 0] - drawn[:, 1]),
    }
