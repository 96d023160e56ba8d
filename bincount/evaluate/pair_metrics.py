"""Figures of the change head: what the photo before adds to the photo now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.metrics import roc_auc_score

from bincount.counts import Counts
from bincount.dataset.manifest import Record
from bincount.dataset.pairs import Pair
from bincount.evaluate.bootstrap import bootstrap, interval
from bincount.evaluate.count_metrics import truth_of
from bincount.evaluate.detection_metrics import PLANTED, WeightedErrors, auroc_intervals, ranking_figures
from bincount.evaluate.metrics import MAIN_FIGURES, main_figures
from bincount.mismatch.change import ChangeHead, is_unchanged
from bincount.mismatch.posterior import posterior_of

_DRAWS = 300
ERRORS = {
    "swapped": "the change is recorded with the opposite sign",
    "one": "one item off",
    "missed": "of two or more items that moved, one is not recorded",
}
"""Planted errors of the record after a transaction."""


def evaluate_pairs(
    head: ChangeHead,
    pairs: Sequence[Pair],
    earlier: np.ndarray,
    later: np.ndarray,
    probabilities: np.ndarray,
    records: Sequence[Record],
    counts: Counts,
    prior: np.ndarray,
) -> dict:
    """Figures of the count after a transaction, given both photos and the count before.

    Args:
        head: The model's change head.
        pairs: Of bins that the model did not learn from, one or more.
        earlier: (P, D) features of each pair's earlier photo.
        later: (P, D) features of its later one.
        probabilities: (N, C) what the model predicts from single photos, in the order of `records`.
        records: (N,) the bins; their records are taken for right.
        counts: The C classes.
        prior: (C,) class frequencies among the training bins.

    Returns:
        `pairs`, how many; `learned_from`, how many the head was learned from; `direction_auroc` among the pairs whose
        count changes; `exact`, `within_one`, `nll` and `rmse` of the count after; `intervals`, 95 % over groups; and
        the same figures of `blind`, which knows the count before alone, and `photo`, which sees the later photo alone.
        `confidence` is the mean probability of the most probable count, `coverage_90` the share of 90 % sets that hold
        the true count. `unchanged` has whether the head `knows` bins in which nothing moved, the number of such `pairs`
        and, where there are any, `called_changed`, the share of them whose most probable count is another. `variance`
        has, for each of `ERRORS` that is possible, the AUROC of wrong records by these three judges, with `intervals`,
        and under `worklist` what the worklist's own ranking gives `with` and `without` the photo before; `error_rate`
        is the share of wrong records.
    """
    truth = truth_of(records, counts)
    before, after = (truth[[pair[end] for pair in pairs]] for end in (0, 1))
    groups = [records[pair.after].group for pair in pairs]
    values = np.asarray(counts.values, float)
    photo = probabilities[[pair.after for pair in pairs]]
    blind, joint = head.transitions[before], head.joint(earlier, later, before, photo, prior)
    judges = {
        "": (joint, head.score(later - earlier)),
        "blind": (blind, blind @ values - values[before]),
        "photo": (photo, photo @ values - probabilities[[pair.before for pair in pairs]] @ values),
    }
    still = is_unchanged(before, after, counts)
    answer: dict = {"pairs": len(pairs), "learned_from": head.pairs, "error_rate": PLANTED, "variance": {}}
    answer["unchanged"] = {"knows": head.knows_unchanged, "pairs": int(still.sum())}
    if still.any():
        answer["unchanged"]["called_changed"] = float((joint.argmax(axis=1) != before)[still].mean())
    flat = np.full(len(counts), 1 / len(counts))
    for kind in ERRORS:
        errors = _weighted_errors(before, after, kind, values)
        if errors is None:
            continue
        # As in the worklist: a head that knows no unchanged bins does not judge a record that says that nothing moved.
        recorded = errors.recorded.astype(int) - counts.low
        alone = is_unchanged(before[errors.row], recorded, counts) & (not head.knows_unchanged)
        distributions = {name or "pair": judges[name][0] for name in judges}
        answer["variance"][kind] = _detection(errors, distributions, before, kind, groups, counts) | {
            "worklist": _worklist(errors, alone, (joint, flat), (photo, prior), groups, counts)
        }
    for name, (distribution, score) in judges.items():
        figures = _figures(distribution, score, before, after, groups, counts)
        if name:
            answer[name] = figures
        else:
            answer |= figures
    low, high = head.calibration(counts).bounds(joint, alpha=0.1)
    covered = np.column_stack([joint.max(axis=1), (low <= after) & (after <= high)]).astype(float)
    drawn = bootstrap(groups, covered)
    for column, name in enumerate(("confidence", "coverage_90")):
        answer[name], answer["intervals"][name] = float(covered[:, column].mean()), interval(drawn[:, column])
    return answer


def _weighted_errors(before: np.ndarray, after: np.ndarray, kind: str, values: np.ndarray) -> WeightedErrors | None:
    """Each pair with its right record and with all its possible wrong ones, weighted; None if none is possible."""
    rows: list[tuple[int, float, bool, float]] = []
    for row, (first, second) in enumerate(zip(before.tolist(), after.tolist(), strict=True)):
        wrong = _planted(kind, first, second, len(values))
        rows.append((row, values[second], False, 1 - PLANTED))
        rows += [(row, values[record], True, PLANTED / len(wrong)) for record in wrong]
    if not any(is_wrong for _, _, is_wrong, _ in rows):
        return None
    return WeightedErrors(*(np.asarray(column) for column in zip(*rows, strict=True)))


def _worklist(
    errors: WeightedErrors,
    by_photo: np.ndarray,
    joint: tuple[np.ndarray, np.ndarray],
    photo: tuple[np.ndarray, np.ndarray],
    groups: Sequence[str],
    counts: Counts,
) -> dict:
    """Lift at 5 % and 10 % of the bins by the worklist's ranking, with intervals over groups.

    Args:
        errors: The right and the wrong records.
        by_photo: (M,) which of them are judged by the later photo alone.
        joint: (P, C) distributions from both photos, and their prior.
        photo: (P, C) those from the later photo alone, and theirs.
        groups: (P,) group of each pair.
        counts: The C classes.
    """
    both, alone = (
        posterior_of(distribution[errors.row], errors.recorded, counts, prior).probability
        for distribution, prior in (joint, photo)
    )
    scores = {"with": np.where(by_photo, alone, both), "without": alone}
    member = np.unique(np.asarray(groups)[errors.row], return_inverse=True)[1]
    rng, count = np.random.default_rng(0), int(member.max()) + 1
    times = [np.bincount(rng.integers(0, count, count), minlength=count)[member] for _ in range(_DRAWS)]
    times = [each for each in times if each[errors.wrong].any()]  # without a wrong record there is no lift
    answer = {}
    for name, score in scores.items():
        lifts = [_lifts(score, errors, errors.weight * weight) for weight in [np.ones(len(member)), *times]]
        answer[name] = {
            f"lift_{percent}": {"value": lifts[0][column], "interval": interval(np.array(lifts[1:])[:, column])}
            for column, percent in enumerate((5, 10))
        }
    return answer


def _lifts(score: np.ndarray, errors: WeightedErrors, weight: np.ndarray) -> tuple[float, float]:
    at = ranking_figures(score, errors, weight)["at"]
    return at["0.05"]["lift"], at["0.1"]["lift"]


def pairs_summary(figures: dict) -> dict[str, float]:
    """The main figures of `evaluate_pairs`, flat, as metrics of a run."""
    names = ("direction_auroc", *MAIN_FIGURES)
    own = {f"pairs_{name}": figures[name] for name in names if name in figures}
    other = {
        f"pairs_{name}_{judge}": figures[judge][name]
        for judge in ("blind", "photo")
        for name in names
        if name in figures[judge]
    }
    found = {
        f"pairs_auroc_{kind}_{judge}": row[judge]
        for kind, row in figures["variance"].items()
        for judge in ("pair", "blind", "photo")
    }
    return {"pairs": figures["pairs"], **own, **other, **found}


def _figures(
    distribution: np.ndarray,
    score: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    groups: Sequence[str],
    counts: Counts,
) -> dict:
    answer = main_figures(distribution, after, groups, counts)
    moved = after != before
    added, member = (after > before)[moved], np.unique(np.asarray(groups)[moved], return_inverse=True)[1]
    if len(set(added)) == 2:
        answer["direction_auroc"] = float(roc_auc_score(added, score[moved]))
        answer["intervals"]["direction_auroc"] = _auroc_interval(added, score[moved], member)
    return answer


def _detection(
    errors: WeightedErrors,
    distributions: Mapping[str, np.ndarray],
    before: np.ndarray,
    kind: str,
    groups: Sequence[str],
    counts: Counts,
) -> dict:
    """AUROC of wrong records by each judge, and 95 % intervals over groups: of each, and of what the pair adds.

    Records are ranked by their Bayes factor, wrong against right, for a judge who knows the kind of error.

    Args:
        errors: The right and the wrong records.
        distributions: (P, C) distributions over the count after, by judge.
        before: (P,) class of the count before.
        kind: One of `ERRORS`.
        groups: (P,) group of each pair.
        counts: The C classes.
    """
    classes = np.array([counts.index_of(int(value)) for value in errors.recorded])
    member = np.unique(np.asarray(groups)[errors.row], return_inverse=True)[1]
    scores = {}
    for judge, distribution in distributions.items():
        factor = (_likelihood_if_wrong(distribution, before, kind) / np.maximum(distribution, 1e-6))[
            errors.row, classes
        ]
        scores[judge] = PLANTED * factor / (PLANTED * factor + 1 - PLANTED)
    answer: dict = {judge: ranking_figures(score, errors, errors.weight)["auroc"] for judge, score in scores.items()}
    answer["intervals"] = {
        f"against_{judge}": auroc_intervals(scores["pair"], scores[judge], errors, member)
        for judge in ("blind", "photo")
    }
    return answer


def _likelihood_if_wrong(distribution: np.ndarray, before: np.ndarray, kind: str) -> np.ndarray:
    """(P, C) probability of each record, if it is wrong in this way, from distributions (P, C) over the true count."""
    classes = distribution.shape[1]
    answer = np.zeros_like(distribution)
    for first in set(before.tolist()):
        planted = np.zeros((classes, classes))  # of each record, by true count
        for second in range(classes):
            wrong = _planted(kind, first, second, classes)
            planted[second, wrong] = 1 / max(1, len(wrong))
        answer[before == first] = distribution[before == first] @ planted
    return answer


def _planted(kind: str, before: int, after: int, classes: int) -> list[int]:
    """The possible wrong records of a pair, as classes."""
    change = after - before
    sign = int(np.sign(change))
    records = {
        "swapped": [before - change] * (change != 0),
        "one": [after - 1, after + 1],
        "missed": [after - sign] * (abs(change) > 1),
    }[kind]
    return [record for record in records if 0 <= record < classes]


def _auroc_interval(added: np.ndarray, score: np.ndarray, member: np.ndarray) -> tuple[float, float]:
    """95 % interval over groups."""
    rng, count = np.random.default_rng(0), int(member.max()) + 1
    drawn = []
    for _ in range(_DRAWS):
        weight = np.bincount(rng.integers(0, count, count), minlength=count)[member]
        if len(set(added[weight > 0])) == 2:
            drawn.append(roc_auc_score(added, score, sample_weight=weight))
    return interval(np.asarray(drawn))
