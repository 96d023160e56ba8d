"""Figures of predicted counts: metrics with intervals, beside the baselines, and by slice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bincount.counts import Counts
from bincount.dataset.manifest import Record
from bincount.errors import DataError
from bincount.evaluate import metrics
from bincount.evaluate.bootstrap import bootstrap, interval
from bincount.evaluate.metrics import baselines_of

_SCALES = ("up to 400 px", "401 to 600 px", "above 600 px", "blurred", "medium", "sharp")


def truth_of(records: Sequence[Record], counts: Counts) -> np.ndarray:
    """(N,) class index of each record.

    Raises:
        DataError: If a bin occurs twice or its count is no class.
    """
    if len({record.id for record in records}) != len(records):
        raise DataError("evaluation: each bin must be scored exactly once, got one twice. Run `bincount ingest` again.")
    truth = [counts.index_of(record.recorded) for record in records]
    for record, index in zip(records, truth, strict=True):
        if index is None:
            raise DataError(
                f"bin {record.id}: its count must be one of {', '.join(counts.names)}, got {record.recorded}. "
                "Ingest bins of the model's counts."
            )
    return np.asarray(truth, dtype=int)


def evaluate_predictions(
    probabilities: np.ndarray, records: Sequence[Record], counts: Counts, sharpness: Sequence[float] | None = None
) -> dict:
    """Computes every figure of an evaluation, ready for JSON.

    Args:
        probabilities: (N, C) predicted distributions, in the order of `records`.
        records: (N,) the bins, each once.
        counts: The C classes.
        sharpness: (N,) variance of the Laplacian of each photo; None: no slices by it.

    Returns:
        `metrics` (flat), `baselines` (each figure of "always the largest class"
        and of "always the class prior"), `intervals` (95 % over groups, by
        metric), `differences` (95 % intervals of metric minus baseline),
        `per_count`, `confusion`, `reliability`, `coverage` and `slices`.

    Raises:
        DataError: If predictions and records do not match in number or classes.
    """
    truth = truth_of(records, counts)
    values = metrics.values_per_bin(probabilities, truth, counts)
    gaps = metrics.calibration_per_bin(probabilities, truth)
    names = list(values)
    groups = [record.group for record in records]
    means = bootstrap(groups, np.column_stack([*values.values(), gaps]))
    drawn = {name: means[:, index] for index, name in enumerate(names)}
    drawn["rmse"] = np.sqrt(drawn.pop("squared"))
    drawn["ece"] = abs(means[:, len(names) :]).sum(axis=1)
    return {
        "metrics": {
            **metrics.summary_of(values, gaps),
            "ece_by_chance": metrics.ece_by_chance(probabilities),
            "bins": len(records),
            "groups": len(set(groups)),
        },
        "baselines": baselines_of(truth, counts),
        "intervals": {name: interval(samples) for name, samples in drawn.items()},
        "differences": {
            "exact": interval(drawn["exact"] - drawn["largest_class"]),
            "nll": interval(drawn["nll"] - drawn["prior_nll"]),
        },
        "per_count": metrics.table_per_count(probabilities, truth, counts),
        "confusion": metrics.confusion_of(probabilities, truth, counts).tolist(),
        "reliability": metrics.reliability_diagram(probabilities, truth),
        "coverage": _coverage(probabilities, values),
        "slices": _slices(records, values, sharpness),
    }


def _coverage(probabilities: np.ndarray, values: dict[str, np.ndarray]) -> list[dict]:
    """Accuracy on the most confident predictions: a tenth of the bins, two tenths, up to all."""
    ranked = np.argsort(-probabilities.max(axis=1), kind="stable")
    sizes = [max(1, round(len(ranked) * tenths / 10)) for tenths in range(1, 11)]
    return [
        {
            "coverage": bins / len(ranked),
            "bins": bins,
            **{figure: float(values[figure][ranked[:bins]].mean()) for figure in ("exact", "within_one", "mae")},
        }
        for bins in dict.fromkeys(sizes)
    ]


def _slices(
    records: Sequence[Record], values: dict[str, np.ndarray], sharpness: Sequence[float] | None
) -> dict[str, list[dict]]:
    """Figures by orientation, size, number of products and sharpness of the photos."""
    keys = {
        "orientation": [_orientation(record) for record in records],
        "size": [_size(record) for record in records],
        "products": [str(record.n_skus) if record.n_skus < 4 else "4 or more" for record in records],
    }
    if sharpness is not None:
        keys["sharpness"] = _thirds(np.asarray(sharpness))
    return {
        kind: [
            {
                "slice": name,
                "bins": int((np.asarray(of) == name).sum()),
                **{
                    figure: float(values[figure][np.asarray(of) == name].mean())
                    for figure in ("exact", "within_one", "mae", "nll", "largest_class")
                },
            }
            for name in sorted(set(of), key=_rank)
        ]
        for kind, of in keys.items()
    }


def _rank(name: str) -> tuple[int, str]:
    """Sorts slices of a scale along it, and all others by their names."""
    return (_SCALES.index(name) if name in _SCALES else -1, name)


def _thirds(sharpness: np.ndarray) -> list[str]:
    low, high = np.quantile(sharpness, [1 / 3, 2 / 3])
    return ["blurred" if value <= low else "medium" if value <= high else "sharp" for value in sharpness]


def _orientation(record: Record) -> str:
    if record.width_px == record.height_px:
        return "square"
    return "landscape" if record.width_px > record.height_px else "portrait"


def _size(record: Record) -> str:
    longest = max(record.width_px, record.height_px)
    return "up to 400 px" if longest <= 400 else "401 to 600 px" if longest <= 600 else "above 600 px"
