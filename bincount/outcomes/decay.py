"""Decay of a model by outcomes: what counting found beside what the worklist stated.

Listed bins are no random sample, so nothing here is compared with nominal coverage or with
the rate of errors. Each counted bin is compared with what the worklist stated of that very bin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]
from scipy.special import expit, logit  # type: ignore[import-untyped]

from bincount.config import DecayLimits
from bincount.counts import Counts
from bincount.outcomes.estimates import counted_bins_of, settled_rows
from bincount.outcomes.outcome_store import JoinedOutcome
from bincount.outcomes.worklist_reader import Origin

RATE_FACTOR = 2.5
"""Factor by which the odds of a wrong record may be larger or smaller than stated without counting as a decay:
warehouses have 1 to 5 % of wrong records (`mismatch.posterior.ERROR_RATE`), and the rate of a site changes."""

MISTAKES = 0.01
"""Share of counts that may be mistaken, so that a single surprising count is no decay."""

MIN_BINS = 20
"""A fact of fewer counted bins is no decay: a person who misunderstands the task may count a few wrong in a row."""

_SHIFTS = np.linspace(-np.log(RATE_FACTOR), np.log(RATE_FACTOR), 9)
_LARGEST_SLOPE = 200.0


@dataclass(frozen=True)
class Statements:
    """N counted bins: what was stated of each, and what counting found.

    Attributes:
        stated: (N,) probability that the record is wrong.
        wrong: (N,) whether it was.
        has_interval: (N,) whether an interval is stated and the model has a class for the counted number. Where it is
            False, the three fields below are False or 0.
        recorded_inside: (N,) whether the prediction interval includes the record.
        inside_if_wrong: (N,) probability that it includes the count if the record is wrong.
        covered: (N,) whether it includes the count.
    """

    stated: np.ndarray
    wrong: np.ndarray
    has_interval: np.ndarray
    recorded_inside: np.ndarray
    inside_if_wrong: np.ndarray
    covered: np.ndarray

    def coverage(self, wrong: np.ndarray) -> np.ndarray:
        """(N,) probability that the interval includes the count, if a record is wrong with probability `wrong` (N,)."""
        return (1 - wrong) * self.recorded_inside + wrong * self.inside_if_wrong


def statements_of(rows: Sequence[JoinedOutcome], counts: Counts, prior: Sequence[float]) -> Statements:
    """The statements of a worklist on counted bins; each row must have them (`WorklistRow.stated`).

    Args:
        rows: At least one.
        counts: The model's classes.
        prior: Their frequencies among its training bins.
    """
    bins = counted_bins_of(rows, str(counts), prior)
    stated = [row.listed.stated for row in rows if row.listed.stated is not None]

    def classes_of(values: Sequence[int | None]) -> np.ndarray:
        found = [None if value is None else counts.index_of(value) for value in values]
        return np.asarray([-1 if each is None else each for each in found])

    low, high = classes_of([each.low for each in stated]), classes_of([each.high for each in stated])
    recorded, counted = classes_of(bins.recorded.tolist()), classes_of(bins.counted.tolist())
    # Of a count that the model has no class for, no probability is stated.
    has_interval = np.asarray([each.low is not None and each.high is not None for each in stated]) & (counted >= 0)
    inside_if_wrong = np.zeros(len(rows))
    for temperature in {each.temperature for each in stated}:
        of_it = np.asarray([each.temperature == temperature for each in stated])
        inside_if_wrong[of_it] = bins.subset(of_it).coverage_given_error(low[of_it], high[of_it], temperature)
    return Statements(
        stated=np.asarray([each.wrong for each in stated]),
        wrong=bins.wrong,
        has_interval=has_interval,
        recorded_inside=has_interval & (low <= recorded) & (recorded <= high),
        inside_if_wrong=np.where(has_interval, inside_if_wrong, 0),
        covered=has_interval & (low <= counted) & (counted <= high),
    )


def tail_bound(probability: np.ndarray, if_true: np.ndarray, if_false: np.ndarray, total: float) -> float:
    """Upper bound on the probability that a sum of independent two-valued terms reaches a total.

    It holds for any number of terms, and exceeds the probability itself by a factor of about 5 to 10.

    Args:
        probability: (N,) of each term having its first value; at most 1 - `MISTAKES`.
        if_true: (N,) that value.
        if_false: (N,) the other value.
        total: What was observed.

    Source:
        Chernoff, A measure of asymptotic efficiency for tests of a hypothesis based on the sum of observations, 1952.

    Example:
        >>> round(tail_bound(np.full(10, 0.5), np.ones(10), np.zeros(10), 9), 4)  # the probability is 11 / 1024
        0.0252
    """

    def log_bound(slope: float) -> float:
        terms = slope * if_false + np.log1p(probability * np.expm1(slope * (if_true - if_false)))
        return float(terms.sum() - slope * total)

    found = minimize_scalar(log_bound, bounds=(0, _LARGEST_SLOPE), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(min(0.0, found.fun)))


def facts_of(found: Statements, limits: DecayLimits) -> dict[str, dict[str, float]]:
    """Compares what was found with what was stated.

    A fact's `p_value` is an upper bound on the probability of a value at least as bad, if the statements are right.
    Two deviations are allowed: the error rate may differ by up to `RATE_FACTOR` from the one used, and a share
    `MISTAKES` of the counts may be mistaken. The choice of the counted bins does not bias it: they were chosen by photo
    and record, and the statements are conditional on both.

    Args:
        found: The counted bins.
        limits: Of each fact's p-value.

    Returns:
        By name, with `bins`, `value`, the `expected` value if the statements are right, `p_value` and `limit`:
        `coverage`, the share of prediction intervals that include the count (left out if none is known);
        `brier`, the Brier score of the stated probabilities; `found`, the share of the records that were wrong.
    """
    stated, wrong, bins = found.stated, found.wrong.astype(float), len(found.stated)
    known = found.has_interval
    odds = logit(np.clip(stated, 1e-6, 1 - 1e-6))
    squares = (1 - stated) ** 2, stated**2
    score = float(((stated - wrong) ** 2).sum())
    p_values: dict[str, list[float]] = {"coverage": [], "brier": [], "found": []}
    for shift in _SHIFTS:
        shifted = expit(odds + shift)
        mistaken = MISTAKES + (1 - 2 * MISTAKES) * shifted
        p_values["brier"].append(tail_bound(mistaken, *squares, score))
        p_values["found"].append(tail_bound((1 - MISTAKES) * shifted, -np.ones(bins), np.zeros(bins), -wrong.sum()))
        if known.any():
            covered = (1 - MISTAKES) * found.coverage(shifted)[known]
            ones = np.ones(len(covered))
            p_values["coverage"].append(tail_bound(covered, -ones, 0 * ones, -float(found.covered[known].sum())))
    facts = {
        "brier": (bins, score / bins, float((stated * (1 - stated)).mean())),
        "found": (bins, float(wrong.mean()), float(stated.mean())),
    }
    if known.any():
        expected = float(found.coverage(stated)[known].mean())
        facts = {"coverage": (int(known.sum()), float(found.covered[known].mean()), expected), **facts}
    return {
        name: {
            "bins": number,
            "value": round(value, 6),
            "expected": round(expected, 6),
            "p_value": float(f"{max(p_values[name]):.3g}"),
            "limit": getattr(limits, name),
        }
        for name, (number, value, expected) in facts.items()
    }


def decay_of(origin: Origin, stored: Sequence[JoinedOutcome], limits: DecayLimits) -> dict | None:
    """Compares the counts of a worklist with what it stated, JSON-ready.

    Bins that the model may have learned from are left out, since it is overconfident there, and so are bins whose
    record was not compared with a photo.

    Args:
        origin: The worklist.
        stored: All counts of it so far.
        limits: Of `facts_of`.

    Returns:
        `worklist`, `model_version`, when its bins were counted (`first`, `last`), how many of these there are (`bins`,
        `wrong`), `facts` and `beyond`, the names of those of `MIN_BINS` and beyond their limit; None where no bin can
        be compared.
    """
    rows = [row for row in settled_rows(stored)[0] if row.listed.stated is not None and not row.listed.in_training]
    if not rows:
        return None
    found = statements_of(rows, Counts.parse(origin.counts), origin.prior)
    facts = facts_of(found, limits)
    return {
        "worklist": origin.worklist,
        "model_version": origin.model_version,
        "first": min(row.outcome.when for row in rows)[:10],
        "last": max(row.outcome.when for row in rows)[:10],
        "bins": len(rows),
        "wrong": int(found.wrong.sum()),
        "facts": facts,
        "beyond": [
            name for name, fact in facts.items() if fact["bins"] >= MIN_BINS and fact["p_value"] < fact["limit"]
        ],
    }


def decay_over_time(
    stored: Mapping[Origin, Sequence[JoinedOutcome]], *, source: str, limits: DecayLimits
) -> list[dict]:
    """`decay_of` each worklist of a source, those that were counted first at the beginning."""
    found = [decay_of(origin, rows, limits) for origin, rows in stored.items() if origin.source == source]
    return sorted((each for each in found if each), key=lambda each: (each["first"], each["last"], each["worklist"]))


def sentences_of(decay: Mapping) -> Iterator[str]:
    """A fact of `decay_of` each, as a sentence.

    Example:
        >>> fact = {"bins": 50, "value": 0.1, "expected": 0.4, "p_value": 0.0001, "limit": 0.003}
        >>> list(sentences_of({"facts": {"found": fact}}))
        ['found is 0.1 in 50 counted bins, 0.4 was expected (p 0.0001, limit 0.003)']
    """
    for name, fact in decay["facts"].items():
        yield (
            f"{name} is {fact['value']:.3g} in {fact['bins']} counted bins, {fact['expected']:.3g} was expected "
            f"(p {fact['p_value']:.2g}, limit {fact['limit']:g})"
        )
