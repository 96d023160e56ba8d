"""How well wrong records are found: errors planted in records that are taken for right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bincount.counts import Counts
from bincount.dataset.manifest import Record
from bincount.evaluate.bootstrap import interval
from bincount.mismatch.posterior import ERROR_RATE, record_posterior

SHARES = (0.01, 0.02, 0.05, 0.10, 0.20)
"""Of all bins: how many are counted."""
KINDS = {
    "neighbour": "the record of another photo of the group",
    "one": "one item off",
    "two": "two items off",
    "mixed": "one item off in 7 of 10, two in 3",
    "any": "any other count",
}
MISS_COST = 20.0
"""What an error that is not found costs, in costs of counting a bin, where a cost is stated."""

_DRAWS = 300


@dataclass(frozen=True)
class _Planted:
    """Bins twice: with their right record and, in parts that sum to one, with wrong ones.

    So every bin is there with every error at once and nothing depends on a draw.

    Attributes:
        row: (M,) which bin.
        recorded: (M,) what its record says.
        wrong: (M,) whether it is wrong.
        weight: (M,) error rate times its part, or one minus the error rate.
    """

    row: np.ndarray
    recorded: np.ndarray
    wrong: np.ndarray
    weight: np.ndarray


def detection_metrics(
    probabilities: np.ndarray,
    records: Sequence[Record],
    counts: Counts,
    prior: np.ndarray,
    *,
    error_rate: float = ERROR_RATE,
) -> dict:
    """Ranks right and wrong records and says what the ranking is worth.

    Args:
        probabilities: (N, C) what the model says of bins it did not learn from.
        records: (N,) the bins; what they record is taken for right.
        counts: The C classes.
        prior: (C,) frequencies of the classes among the bins it learned from.
        error_rate: Share of records that are wrong.

    Returns:
        `error_rate`, `miss_cost` and, by kind of error (`KINDS`, those that can be made of these bins), `bins`
        and the figures of three rankings: `model`, `image_blind` (which is told how often each
        record is wrong, so it is the best there is without a photo) and `random`. Figures:
        `auroc`, `auprc`, `expected_cost` a bin, and by share of bins counted (`at`) `precision`, `recall`,
        `lift` and `false_alarms` per 1,000 bins. `intervals` are 95 % over groups, of the model's and the blind
        `auroc` and of their `difference`.
    """
    _, member = np.unique([record.group for record in records], return_inverse=True)
    answer: dict = {"error_rate": error_rate, "miss_cost": MISS_COST, "kinds": {}}
    for kind in KINDS:
        planted = _plant(kind, records, counts, error_rate)
        if planted is None:
            continue
        variance = record_posterior(probabilities[planted.row], planted.recorded, counts, prior, error_rate=error_rate)
        seen, blind = variance.probability, _blind(planted, counts)
        answer["kinds"][kind] = {
            "bins": len(np.unique(planted.row)),
            "model": _figures(seen, planted, planted.weight),
            "image_blind": _figures(blind, planted, planted.weight),
            "random": _figures(np.full(len(seen), error_rate), planted, planted.weight),
            "intervals": _intervals(seen, blind, planted, member[planted.row]),
        }
    return answer


def headline_metrics(judged: dict) -> dict[str, float]:
    """A few flat figures of what `detection_metrics` gave, to follow from run to run."""
    flat = {}
    for kind, row in judged["kinds"].items():
        flat[f"variance_auroc_{kind}"] = row["model"]["auroc"]
        flat[f"variance_auroc_{kind}_blind"] = row["image_blind"]["auroc"]
        flat[f"variance_lift_{kind}"] = row["model"]["at"]["0.05"]["lift"]
    return flat


def _plant(kind: str, records: Sequence[Record], counts: Counts, error_rate: float) -> _Planted | None:
    rows: list[tuple[int, int, bool, float]] = []
    for row, wrong in _errors(kind, records, counts):
        if wrong:
            rows.append((row, records[row].recorded, False, 1 - error_rate))
            rows += [(row, count, True, error_rate * part) for count, part in wrong.items()]
    if not rows:
        return None
    return _Planted(*(np.asarray(column) for column in zip(*rows, strict=True)))


def _errors(kind: str, records: Sequence[Record], counts: Counts) -> Iterator[tuple[int, dict[int, float]]]:
    """Each bin with the wrong records it may get and their parts of one; those that no class holds are left out."""
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


def _blind(planted: _Planted, counts: Counts) -> np.ndarray:
    """(M,) how often a record that says so is wrong, exactly."""
    classes = np.asarray([counts.index_of(int(count)) for count in planted.recorded])
    total = np.bincount(classes, planted.weight, len(counts))
    wrong = np.bincount(classes, planted.weight * planted.wrong, len(counts))
    return (wrong / np.maximum(total, 1e-12))[classes]


def _ranked(scores: np.ndarray) -> np.ndarray:
    """(M,) place of each score among the different ones, the highest first."""
    return np.unique(-np.round(scores, 9), return_inverse=True)[1]


def _figures(scores: np.ndarray, planted: _Planted, weight: np.ndarray) -> dict:
    place = _ranked(scores)
    wrong = np.bincount(place, weight * planted.wrong)
    every = np.bincount(place, weight)
    total, errors = every.sum(), wrong.sum()
    counted, found = every.cumsum(), wrong.cumsum()
    worth = scores * MISS_COST > 1
    missed = (weight * planted.wrong)[~worth].sum()
    at = {}
    for share in SHARES:
        hits = float(np.interp(share * total, [0, *counted], [0, *found]))  # equal scores in no order of their own
        precision = hits / (share * total)
        at[f"{share:g}"] = {
            "precision": precision,
            "recall": hits / errors,
            "lift": precision / (errors / total),
            "false_alarms": 1000 * share * (1 - precision),
        }
    return {
        "auroc": _auroc(place, planted, weight),
        "auprc": float((wrong * found / np.maximum(counted, 1e-12)).sum() / errors),
        "expected_cost": float((weight[worth].sum() + MISS_COST * missed) / total),
        "at": at,
    }


def _auroc(place: np.ndarray, planted: _Planted, weight: np.ndarray) -> float:
    """Probability that a wrong record comes before a right one, equal scores counting half."""
    wrong = np.bincount(place, weight * planted.wrong)
    right = np.bincount(place, weight * ~planted.wrong)
    after = right.sum() - right.cumsum()
    return float((wrong * (after + right / 2)).sum() / (wrong.sum() * right.sum()))


def _intervals(seen: np.ndarray, blind: np.ndarray, planted: _Planted, member: np.ndarray) -> dict:
    """Groups drawn anew; both rankings share the draws."""
    groups, rng = np.unique(member, return_inverse=True)[1], np.random.default_rng(0)
    places = _ranked(seen), _ranked(blind)
    count = int(groups.max()) + 1
    drawn = np.empty((_DRAWS, 2))
    for draw in range(_DRAWS):
        times = np.bincount(rng.integers(0, count, count), minlength=count)
        weight = planted.weight * times[groups]
        drawn[draw] = [_auroc(place, planted, weight) for place in places]
    return {
        "auroc": interval(drawn[:, 0]),
        "auroc_blind": interval(drawn[:, 1]),
        "difference": interval(drawn[:, 0] - drawn[:, 1]),
    }
