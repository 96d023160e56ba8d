"""Metrics of predicted distributions over counts, their baselines and calibration error.

Everything is computed from values per bin, so that a metric, its interval
over groups and its slices are means of the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bincount.counts import Counts
from bincount.errors import DataError
from bincount.evaluate.bootstrap import bootstrap, interval

FIGURES = ("exact", "within_one", "mae", "rmse", "nll", "rps", "ece")
"""The metrics of a model."""

MEANS = ("exact", "within_one", "mae", "nll", "rps", "largest_class", "prior_nll")
"""Metrics that are the mean of a value per bin; rmse is the root of one."""

_INTERVALS, _DRAWS = 10, 200
_LEAST = 1e-7  # keeps the NLL finite; about the resolution of float32


MAIN_FIGURES = ("exact", "within_one", "nll", "rmse")
"""The figures of `main_figures`."""


def main_figures(probabilities: np.ndarray, truth: np.ndarray, groups: Sequence[str], counts: Counts) -> dict:
    """The main figures of a judge of counts.

    Args:
        probabilities: (N, C) distributions over the classes.
        truth: (N,) class of each true count.
        groups: (N,) group of each bin.
        counts: The C classes.

    Returns:
        Those of `MAIN_FIGURES` (shares, nats and items), and their 95 % `intervals` over groups.
    """
    values = values_per_bin(probabilities, truth, counts)
    columns = np.column_stack([values["exact"], values["within_one"], values["nll"], values["squared"]])
    means, drawn = columns.mean(axis=0), bootstrap(groups, columns)
    means[3], drawn[:, 3] = np.sqrt(means[3]), np.sqrt(drawn[:, 3])
    figures: dict = {name: float(mean) for name, mean in zip(MAIN_FIGURES, means, strict=True)}
    return figures | {"intervals": {name: interval(drawn[:, column]) for column, name in enumerate(MAIN_FIGURES)}}


def values_per_bin(probabilities: np.ndarray, truth: np.ndarray, counts: Counts) -> dict[str, np.ndarray]:
    """Metrics of each bin.

    An open class has the value of its lowest count: "6+" is 6. The two baselines,
    "always the largest class" and "always the class prior", use the class
    frequencies of these bins themselves, so they are the strongest of their kind.

    Args:
        probabilities: (N, C) predicted distribution over classes, rows summing to 1.
        truth: (N,) class index of each bin, in 0..C-1.
        counts: The C classes.

    Returns:
        A (N,) array of each of:
        exact: 1 where the most probable count is the recorded one.
        within_one: 1 where it is at most one away.
        mae: Distance in items of the distribution's median (its lower one).
        squared: Squared distance of its mean; `rmse` is the root of their mean.
        nll: Minus the natural logarithm of the recorded count's probability.
        rps: Ranked probability score: squared distance of the cumulative
            distributions, summed over counts. In items, 0 to C-1 (Epstein 1969;
            the discrete CRPS, not divided by C-1).
        largest_class: 1 where the largest class is the recorded one.
        prior_nll: `nll` of the class prior.

    Raises:
        DataError: If there is no bin, or the shapes do not match.

    Example:
        >>> p = np.array([[0.2, 0.5, 0.3]])
        >>> scores = values_per_bin(p, np.array([2]), Counts.parse("1-3"))
        >>> {name: round(float(value[0]), 3) for name, value in scores.items() if name != "prior_nll"}
        {'exact': 0.0, 'within_one': 1.0, 'mae': 1.0, 'squared': 0.81, 'nll': 1.204, 'rps': 0.53, 'largest_class': 1.0}
    """
    _check(probabilities, truth, counts)
    values = np.asarray(counts.values)
    actual = values[truth]
    answered = values[predicted_class(probabilities)]
    cumulative = probabilities.cumsum(axis=1)
    median = values[(cumulative < 0.5 - 1e-9).sum(axis=1).clip(max=len(counts) - 1)]
    reached = np.arange(len(counts)) >= truth[:, None]  # (N, C) the recorded count's own cumulative distribution
    frequency = np.bincount(truth, minlength=len(counts)) / len(truth)
    return {
        "exact": (answered == actual).astype(float),
        "within_one": (abs(answered - actual) <= 1).astype(float),
        "mae": abs(median - actual).astype(float),
        "squared": (probabilities @ values - actual) ** 2,
        "nll": _nll(probabilities[np.arange(len(truth)), truth]),
        "rps": ((cumulative - reached) ** 2)[:, :-1].sum(axis=1),
        "largest_class": (truth == frequency.argmax()).astype(float),
        "prior_nll": _nll(frequency[truth]),
    }


def summary_of(values: Mapping[str, np.ndarray], gaps: np.ndarray) -> dict[str, float]:
    """Metrics of all bins: those of `MEANS`, `rmse` and `ece`.

    Args:
        values: Those of `values_per_bin`.
        gaps: Those of `calibration_per_bin`.
    """
    figures = {name: float(values[name].mean()) for name in MEANS}
    return {**figures, "rmse": float(np.sqrt(values["squared"].mean())), "ece": float(abs(gaps.mean(axis=0)).sum())}


def baselines_of(truth: np.ndarray, counts: Counts) -> dict[str, dict[str, float | None]]:
    """Metrics of the two baselines, which use the class frequencies of these bins.

    Args:
        truth: (N,) class index of each bin.
        counts: The C classes.

    Returns:
        exact, within_one, mae, rmse, nll, rps and ece of "largest_class", which
        predicts it with certainty (so its nll is infinite: None), and of
        "class_prior", which predicts the class frequencies.

    Example:
        >>> baselines_of(np.array([0, 0, 1]), Counts.parse("1-2"))["largest_class"]["exact"]
        0.6666666666666666
    """
    frequency = np.bincount(truth, minlength=len(counts)) / len(truth)
    answers = {"largest_class": np.eye(len(counts))[frequency.argmax()], "class_prior": frequency}
    figures: dict[str, dict[str, float | None]] = {}
    for name, row in answers.items():
        rows = np.tile(row, (len(truth), 1))
        summary = summary_of(values_per_bin(rows, truth, counts), calibration_per_bin(rows, truth))
        figures[name] = {figure: summary[figure] for figure in FIGURES}
    if frequency.max() < 1:
        figures["largest_class"]["nll"] = None
    return figures


def predicted_class(probabilities: np.ndarray) -> np.ndarray:
    """The most probable class of each bin, the lower one of two equals.

    Args:
        probabilities: (N, C), each row summing to 1.

    Returns:
        (N,) class indices.
    """
    return probabilities.argmax(axis=1)


def table_per_count(probabilities: np.ndarray, truth: np.ndarray, counts: Counts) -> list[dict[str, object]]:
    """A table with one row per count.

    Returns:
        Rows with `count`, `bins` (that record it), `answered` (bins predicted to hold it),
        `recall`, `precision`, `within_one`, `mean` (average predicted mean in items);
        None where a figure is undefined.
    """
    answered = predicted_class(probabilities)
    values = np.asarray(counts.values)
    means = probabilities @ values
    near = abs(values[answered] - values[truth]) <= 1
    rows = []
    for index, name in enumerate(counts.names):
        recorded, given = truth == index, answered == index
        rows.append(
            {
                "count": name,
                "bins": int(recorded.sum()),
                "answered": int(given.sum()),
                "recall": _mean(given[recorded]),
                "precision": _mean(recorded[given]),
                "within_one": _mean(near[recorded]),
                "mean": _mean(means[recorded]),
            }
        )
    return rows


def confusion_of(probabilities: np.ndarray, truth: np.ndarray, counts: Counts) -> np.ndarray:
    """(C, C) number of bins by recorded class (row) and predicted class (column)."""
    table = np.zeros((len(counts), len(counts)), dtype=int)
    np.add.at(table, (truth, predicted_class(probabilities)), 1)
    return table


def calibration_per_bin(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Confidence minus correctness of each bin, in the column of its interval of confidence.

    The absolute column means add up to the expected calibration error (ECE,
    Guo et al. 2017) over ten equal intervals of confidence.

    Args:
        probabilities: (N, C) predicted distribution over classes.
        truth: (N,) class index of each bin.

    Returns:
        (N, 10), nonzero in one column per row at most.

    Example:
        >>> gaps = calibration_per_bin(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0]))
        >>> float(abs(gaps.mean(axis=0)).sum().round(2))  # (|0.9 - 1| + |0.8 - 0|) / 2
        0.45
    """
    confidence = probabilities.max(axis=1)
    gaps = np.zeros((len(truth), _INTERVALS))
    gaps[np.arange(len(truth)), _interval_of(confidence)] = confidence - (predicted_class(probabilities) == truth)
    return gaps


def ece_by_chance(probabilities: np.ndarray) -> float:
    """95 % quantile of the ECE of a perfectly calibrated model with these confidences.

    Few bins show a calibration error by chance alone: up to 0.16 for 60 bins.
    Correctness is drawn with the predicted probability (consistency resampling,
    Broecker and Smith 2007).
    """
    confidence = probabilities.max(axis=1)
    member = np.eye(_INTERVALS)[_interval_of(confidence)]  # (N, 10)
    rng = np.random.default_rng(0)
    simulated = [
        abs((confidence - (rng.random(len(confidence)) < confidence)) @ member).sum() / len(confidence)
        for _ in range(_DRAWS)
    ]
    return float(np.quantile(simulated, 0.95))


def reliability_diagram(probabilities: np.ndarray, truth: np.ndarray) -> list[dict]:
    """Reliability diagram: a row for each interval of confidence with bins.

    Args:
        probabilities: (N, C) predicted distribution over classes.
        truth: (N,) class index of each bin.

    Returns:
        Rows with `from` (the interval's lower end), `bins`, their mean `confidence` and the share `right`.
    """
    confidence = probabilities.max(axis=1)
    right = predicted_class(probabilities) == truth
    interval = _interval_of(confidence)
    return [
        {
            "from": index / _INTERVALS,
            "bins": int((interval == index).sum()),
            "confidence": float(confidence[interval == index].mean()),
            "right": float(right[interval == index].mean()),
        }
        for index in np.unique(interval)
    ]


def embed(probabilities: np.ndarray, counts: Counts, values: Sequence[int]) -> np.ndarray:
    """Extends distributions to more counts, with probability 0 for those the model does not have.

    Example:
        >>> embed(np.array([[0.3, 0.7]]), Counts.parse("1-2"), (0, 1, 2, 3))
        array([[0. , 0.3, 0.7, 0. ]])
    """
    wide = np.zeros((len(probabilities), len(values)))
    wide[:, [list(values).index(value) for value in counts.values]] = probabilities
    return wide


def _nll(probability: np.ndarray) -> np.ndarray:
    return -np.log(np.maximum(probability, _LEAST))


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None


def _interval_of(confidence: np.ndarray) -> np.ndarray:
    """(N,) index of the interval of each confidence."""
    return np.minimum((confidence * _INTERVALS).astype(int), _INTERVALS - 1)


def _check(probabilities: np.ndarray, truth: np.ndarray, counts: Counts) -> None:
    if probabilities.shape != (len(truth), len(counts)) or not len(truth):
        raise DataError(
            f"probabilities: must be at least one row of {len(counts)} a bin, got {probabilities.shape} "
            f"for {len(truth)} bins. Score the model on bins of its own counts."
        )
    if not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3) or probabilities.min() < 0:
        worst = int(abs(probabilities.sum(axis=1) - 1).argmax())
        raise DataError(
            f"probabilities: each row must be >= 0 and sum to 1, got {probabilities[worst].tolist()} in row {worst}. "
            "Train the model again."
        )
