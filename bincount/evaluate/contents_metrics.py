"""Figures of the judge of contents: what the products on a record add to its photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from bincount.counts import Counts
from bincount.dataset.contents import Product
from bincount.dataset.manifest import Record
from bincount.evaluate.detection_metrics import PLANTED, WeightedErrors, auroc_intervals, ranking_figures
from bincount.evaluate.metrics import MAIN_FIGURES, main_figures
from bincount.mismatch.contents import MISSED_SHARE, ContentsJudge, has_sizes
from bincount.mismatch.posterior import posterior_of

ERRORS = {
    "quantity_one": "the quantity of one product off by one",
    "quantity_two": "the quantity of one product off by two",
    "swapped": "the record of another photo of the group: a missed transaction",
    "missing": "a product missing from the record",
    "added": "a product of another bin added to the record",
}
"""Planted errors of a record with its contents."""
JUDGES = ("contents", "informed", "count", "blind")
"""List and photo, as the worklist ranks; the same for a judge who knows whether a quantity is wrong or a transaction
was missed; the photo's count beside the recorded total; list and total without a photo."""
_MOST_BINS = 5000  # judged: each stands beside some ten planted errors


class _Variant(NamedTuple):
    """A record as it might stand beside a photo."""

    row: int
    contents: Sequence[Product]
    recorded: int


def evaluate_contents(
    judge: ContentsJudge,
    contents: Sequence[Sequence[Product]],
    sums: np.ndarray,
    probabilities: np.ndarray,
    records: Sequence[Record],
    counts: Counts,
    prior: np.ndarray,
) -> dict | None:
    """Figures of the total given list and photo, and of wrong records that are found by them.

    Args:
        judge: The model's.
        contents: (N,) the products on each record.
        sums: (N, len(SUMS)) what the model predicts of the sums.
        probabilities: (N, C) what it predicts of the counts.
        records: (N,) bins that the model did not learn from; their records are taken for right.
        counts: The C classes.
        prior: (C,) class frequencies among the training bins.

    Returns:
        `bins` whose products all have known sizes (evenly spaced ones where there are very many); `exact`,
        `within_one`, `nll` and `rmse` of the total given list and photo, with `intervals`, 95 % over groups, and the
        same under `list_only` and `photo`; `error_rate`; and under `variance`, for each of `ERRORS` that is possible,
        the figures of `JUDGES`: `auroc` and the lift at 5 % and 10 % of the bins. None without such a bin.
    """
    rows = [row for row in range(len(records)) if has_sizes(contents[row])]
    rows = rows[:: -(-len(rows) // _MOST_BINS) or 1]
    if not rows:
        return None
    contents, records = [contents[row] for row in rows], [records[row] for row in rows]
    sums, photo = sums[rows], probabilities[rows]
    truth = np.array([counts.index_of(record.recorded) for record in records])
    groups = [record.group for record in records]
    judged = {
        "": judge.totals(contents, photo, sums, prior),
        "list_only": judge.list_only(contents),
        "photo": photo,
    }
    answer: dict = {"bins": len(rows), "error_rate": PLANTED, "variance": {}}
    for name, distribution in judged.items():
        figures = main_figures(distribution, truth, groups, counts)
        if name:
            answer[name] = figures
        else:
            answer |= figures
    right = [_Variant(row, products, int(truth[row])) for row, products in enumerate(contents)]
    for kind in ERRORS:
        wrong = {row: _planted(kind, row, contents, records, counts) for row in range(len(rows))}
        variants = [variant for row in wrong if wrong[row] for variant in (right[row], *wrong[row])]
        if variants:
            weight = [1 - PLANTED if each is right[each.row] else PLANTED / len(wrong[each.row]) for each in variants]
            is_wrong = np.array([each is not right[each.row] for each in variants])
            answer["variance"][kind] = _detection(
                judge, kind, variants, is_wrong, np.array(weight), (sums, photo, prior), groups, counts
            )
    return answer


def contents_summary(figures: dict) -> dict[str, float]:
    """The main figures of `evaluate_contents`, flat, as metrics of a run."""
    own = {f"contents_{name}": figures[name] for name in MAIN_FIGURES}
    alone = {f"contents_{name}_list_only": figures["list_only"][name] for name in MAIN_FIGURES}
    found = {
        f"contents_auroc_{kind}_{judge}": row[judge]["auroc"]
        for kind, row in figures["variance"].items()
        for judge in JUDGES
    }
    return {"contents_bins": figures["bins"], **own, **alone, **found}


def _planted(
    kind: str, row: int, contents: Sequence[Sequence[Product]], records: Sequence[Record], counts: Counts
) -> list[_Variant]:
    """The possible wrong records of a bin, of counts that the model knows."""
    own = [product for product in contents[row] if product.quantity]
    match kind:
        case "quantity_one" | "quantity_two":
            step = 1 if kind == "quantity_one" else 2
            wrong = [
                [*own[:place], replace(product, quantity=product.quantity + change), *own[place + 1 :]]
                for place, product in enumerate(own)
                for change in (-step, step)
                if product.quantity + change > 0
            ]
        case "swapped":
            wrong = [
                list(contents[other])
                for other in (row - 1, row + 1)
                if 0 <= other < len(records) and records[other].group == records[row].group
            ]
        case "missing":
            wrong = [[*own[:place], *own[place + 1 :]] for place in range(len(own)) if len(own) > 1]
        case _:
            other = contents[(row + len(contents) // 2) % len(contents)]
            wrong = [[*own, next(product for product in other if product.quantity)]]
    totals = [counts.index_of(sum(product.quantity for product in products)) for products in wrong]
    return [_Variant(row, products, total) for products, total in zip(wrong, totals, strict=True) if total is not None]


def _detection(
    judge: ContentsJudge,
    kind: str,
    variants: Sequence[_Variant],
    is_wrong: np.ndarray,
    weight: np.ndarray,
    predicted: tuple[np.ndarray, np.ndarray, np.ndarray],
    groups: Sequence[str],
    counts: Counts,
) -> dict:
    rows, contents, recorded = zip(*variants, strict=True)
    sums, photo, prior = predicted
    sums, photo, classes = sums[list(rows)], photo[list(rows)], np.array(recorded)
    values = np.array(counts.values)[classes]
    flat = np.full(len(counts), 1 / len(counts))
    quantity = posterior_of(judge.totals(contents, photo, sums, prior), values, counts, flat).evidence
    missed = judge.missed_evidence(contents, classes, photo, sums, prior)
    evidence = {
        "contents": (1 - MISSED_SHARE) * quantity + MISSED_SHARE * missed,
        "informed": quantity if kind.startswith("quantity") else missed,
        "count": posterior_of(photo, values, counts, prior).evidence,
        "blind": posterior_of(judge.list_only(contents), values, counts, flat).evidence,
    }
    scores = {name: PLANTED * each / (PLANTED * each + 1 - PLANTED) for name, each in evidence.items()}
    errors = WeightedErrors(np.array(rows), values, is_wrong, weight)
    member = np.unique(np.asarray(groups)[list(rows)], return_inverse=True)[1]
    answer: dict = {}
    for name, score in scores.items():
        figures = ranking_figures(score, errors, weight)
        answer[name] = {"auroc": figures["auroc"]} | {
            f"lift_{percent}": figures["at"][share]["lift"] for percent, share in ((5, "0.05"), (10, "0.1"))
        }
    answer["intervals"] = {
        f"against_{name}": auroc_intervals(scores["contents"], scores[name], errors, member)
        for name in ("count", "blind")
    }
    return answer
