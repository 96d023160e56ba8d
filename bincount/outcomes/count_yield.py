"""Figures on the outcomes of a worklist: what counting found, and what other orders would have found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.special import expit, logit  # type: ignore[import-untyped]

from bincount.counts import Counts
from bincount.mismatch.likelihood import LARGEST_EVIDENCE, CountedBins
from bincount.outcomes.error_rate import MAX_INTERVAL_WIDTH, MIN_BINS_FOR_RATE, RateInterval, binomial_interval
from bincount.outcomes.estimates import Estimates, settled_rows
from bincount.outcomes.outcome_store import JoinedOutcome
from bincount.outcomes.recalibration import MIN_BINS_TO_RECALIBRATE
from bincount.outcomes.worklist_reader import Worklist


def yield_figures(
    worklist: Worklist,
    stored: Sequence[JoinedOutcome],
    estimates: Estimates,
    *,
    count_cost: float | None,
    miss_cost: float | None,
) -> dict:
    """Computes what counting found and what other orders would have found.

    Args:
        worklist: The bins.
        stored: All counts of them so far, at least one.
        estimates: From all outcomes of the source.
        count_cost: Cost of a count; None: no costs are computed.
        miss_cost: Cost of a wrong record that is not found; likewise.

    Returns:
        JSON-ready: `superseded`, `conflicts`, `counted`, `yield`, `cost`, `error_rate`, `recalibration` and `says`.
    """
    used, conflicts = settled_rows(stored)
    latest: dict[str, str] = {}
    for row in stored:
        latest[row.outcome.id] = max(row.outcome.when, latest.get(row.outcome.id, ""))
    with_record = [row for row in used if row.listed.recorded is not None]
    recorded = [row.listed.recorded or 0 for row in with_record]
    counted = [row.outcome.counted for row in with_record]
    wrong = sum(one != other for one, other in zip(recorded, counted, strict=True))
    judged = [row for row in with_record if row.listed.probabilities is not None]
    precision = None
    if with_record:
        interval = binomial_interval(wrong, len(with_record))
        ends = {"low": round(interval.low, 6), "high": round(interval.high, 6)}
        precision = {"estimate": round(wrong / len(with_record), 6), **ends}
    answer: dict = {
        "superseded": sum(row.outcome.when < latest[row.outcome.id] for row in stored),
        "conflicts": conflicts,
        "counted": {
            "bins": len(used),
            "without_record": len(used) - len(with_record),
            "not_judged": len(with_record) - len(judged),
            "learned_from": sum(row.listed.in_training for row in judged),
            "wrong": wrong,
            "precision": precision,
            **differences_of(recorded, counted),
        },
        "yield": None,
        "cost": None,
    }
    if judged and estimates.rate is not None:
        expected = _expected_errors(worklist, judged, estimates.rate, estimates.rate_temperature)
        found, bins = sum(row.listed.recorded != row.outcome.counted for row in judged), len(judged)
        orders = {"random": expected.at_random(bins), "recorded": expected.by_recorded(bins)}
        answer["yield"] = {
            "bins": bins,
            "found": found,
            "per_count": round(found / bins, 6),
            "at_random": list(orders["random"]),
            "by_recorded": list(orders["recorded"]),
            "among_the_first": round(sum(row.listed.place <= bins for row in judged) / bins, 6),
        }
        if count_cost is not None and miss_cost is not None:
            answer["cost"] = savings_of(found, orders, count_cost=count_cost, miss_cost=miss_cost, counts=bins)
    answer |= estimates.facts
    return {**answer, "says": list(_explanations(answer))}


def _expected_errors(
    worklist: Worklist, judged: Sequence[JoinedOutcome], rate: RateInterval, temperature: float
) -> ExpectedErrors:
    """Errors among all bins of the list with a verdict: found where counted, expected where not."""
    expected = ExpectedErrors(rate)
    counts, prior = Counts.parse(worklist.origin.counts), np.asarray(worklist.origin.prior)
    wrong = {row.listed.place: float(row.listed.recorded != row.outcome.counted) for row in judged}
    for page in worklist.pages():
        rows = [row for row in page if row.probabilities is not None]
        if rows:
            recorded = np.asarray([row.recorded for row in rows])
            probabilities = np.asarray([row.probabilities for row in rows], dtype=float)
            evidence = CountedBins(probabilities, recorded, recorded, counts, prior).log_evidence(temperature)
            expected.add(recorded, evidence, np.asarray([wrong.get(row.place, np.nan) for row in rows]))
    return expected


def _explanations(answer: dict) -> Iterator[str]:
    counted, found, rate, again = (answer[name] for name in ("counted", "yield", "error_rate", "recalibration"))
    if counted["precision"]:
        yield f"{counted['wrong']} of {counted['bins'] - counted['without_record']} counted records were wrong."
    if found:
        yield (
            f"{found['among_the_first']:.0%} of the counted bins are among the first {found['bins']} of the worklist: "
            "the larger this share, the less the error rate among them is that of all bins."
        )
    if rate["estimate"] is not None:
        yield (
            f"Estimated error rate of all records: {rate['estimate']:.2%} (95 % interval {rate['low']:.2%} to "
            f"{rate['high']:.2%}), from {rate['outcomes']} counted bins given their photos and records. It is valid "
            "however the bins were chosen by photo and record, if the model's calibration and the assumed pattern of "
            "errors are right; only the error rate of a random sample does not depend on these."
        )
    if not rate["used"]:
        yield (
            f"Not enough outcomes for the next run: it needs {MIN_BINS_FOR_RATE} and an interval of at most "
            f"{MAX_INTERVAL_WIDTH:.0%}, got {rate['outcomes']}."
        )
    if again["outcomes"] < MIN_BINS_TO_RECALIBRATE:
        yield (
            f"Not enough outcomes to recalibrate: it needs {MIN_BINS_TO_RECALIBRATE} of this model on bins outside its "
            f"training data, got {again['outcomes']}."
        )
    elif again["used"]:
        yield f"Recalibrated with temperature {again['temperature']:g} from the next run: held-out likelihood improves."
    else:
        yield "Not recalibrated: held-out likelihood does not improve significantly."
    if answer["conflicts"]:
        yield "Bins with different counts at the same time are left out until a later count is imported."


def differences_of(recorded: Sequence[int], counted: Sequence[int]) -> dict[str, dict[str, int]]:
    """Overs (more counted than recorded) and shorts (fewer), not offset against each other.

    Returns:
        Of `overs` and `shorts` the number of `bins` and of `items`.

    Example:
        >>> differences_of([3, 3, 3], [5, 1, 3])
        {'overs': {'bins': 1, 'items': 2}, 'shorts': {'bins': 1, 'items': 2}}
    """
    off = np.asarray(counted, dtype=int) - np.asarray(recorded, dtype=int)
    return {
        name: {"bins": int((sign * off > 0).sum()), "items": int((sign * off).clip(0).sum())}
        for name, sign in (("overs", 1), ("shorts", -1))
    }


@dataclass
class ExpectedErrors:
    """Wrong records by recorded count: found where a bin was counted, expected where it was not.

    Attributes:
        rate: Error rate of all records.
        bins: Number of bins by recorded count.
        wrong: (3,) wrong records among them, at the rate's estimate and the ends of its interval.
    """

    rate: RateInterval
    bins: dict[int, int] = field(default_factory=dict)
    wrong: dict[int, np.ndarray] = field(default_factory=dict)

    def add(self, recorded: np.ndarray, log_evidence: np.ndarray, wrong: np.ndarray) -> None:
        """Adds bins.

        Args:
            recorded: (N,) recorded counts.
            log_evidence: (N,) log evidence of each photo that its record is wrong.
            wrong: (N,) 1 or 0 where counting found it wrong or right, NaN where it was not counted.
        """
        evidence = np.clip(log_evidence, -np.log(LARGEST_EVIDENCE), np.log(LARGEST_EVIDENCE))
        expected = expit(evidence[:, None] + logit([self.rate.estimate, self.rate.low, self.rate.high]))
        errors = np.where(np.isnan(wrong)[:, None], expected, wrong[:, None])
        values, place = np.unique(recorded, return_inverse=True)
        for index, value in enumerate(values.tolist()):
            self.bins[value] = self.bins.get(value, 0) + int((place == index).sum())
            self.wrong[value] = self.wrong.get(value, np.zeros(3)) + errors[place == index].sum(axis=0)

    def at_random(self, count: int) -> tuple[float, float, float]:
        """Wrong records expected among `count` random bins; estimate, low and high."""
        total = sum(self.wrong.values(), np.zeros(3))
        return _rounded(total * count / max(1, sum(self.bins.values())))

    def by_recorded(self, count: int) -> tuple[float, float, float]:
        """The same among the `count` bins with the largest recorded counts, random among equal ones."""
        left, found = count, np.zeros(3)
        for value in sorted(self.bins, reverse=True):
            taken = min(left, self.bins[value])
            found += self.wrong[value] * taken / self.bins[value]
            left -= taken
        return _rounded(found)


def savings_of(
    found: int, others: Mapping[str, tuple[float, float, float]], *, count_cost: float, miss_cost: float, counts: int
) -> dict:
    """Costs and savings of counting.

    Args:
        found: Wrong records found.
        others: What as many counts would have found in other orders, with intervals.
        count_cost: Cost of a count.
        miss_cost: Cost of a wrong record that is not found.
        counts: Number of bins counted.

    Returns:
        `spent`, `saved` by finding, their difference `net`, and how much more
        this order saved than each other (`against_...`), as estimate, low and high.

    Example:
        >>> savings_of(3, {"random": (1.0, 0.5, 2.0)}, count_cost=2.0, miss_cost=10.0, counts=5)
        {'spent': 10.0, 'saved': 30.0, 'net': 20.0, 'against_random': [20.0, 10.0, 25.0]}
    """
    spent, saved = count_cost * counts, miss_cost * found
    against = {
        f"against_{name}": [round(miss_cost * (found - other), 2) for other in (middle, high, low)]
        for name, (middle, low, high) in others.items()
    }
    return {"spent": round(spent, 2), "saved": round(saved, 2), "net": round(saved - spent, 2), **against}


def _rounded(values: np.ndarray) -> tuple[float, float, float]:
    middle, low, high = (round(float(value), 3) for value in values)
    return middle, low, high
