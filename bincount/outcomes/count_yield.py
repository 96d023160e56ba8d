"""What the outcomes of a worklist are worth, in figures and in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bincount.counts import Counts
from bincount.mismatch.likelihood import MAX_MISMATCH_PROBABILITY, CountedBins
from bincount.outcomes.error_rate import ENOUGH_FOR_RATE, WIDEST, RateEstimate, share_of
from bincount.outcomes.estimates import Estimates, holding
from bincount.outcomes.outcome_store import StoredOutcomes
from bincount.outcomes.recalibration import ENOUGH_TO_RECALIBRATE
from bincount.outcomes.worklist_reader import Worklist


def figures_of(
    worklist: Worklist,
    kept: Sequence[StoredOutcomes],
    learned: Estimates,
    *,
    count_cost: float | None,
    miss_cost: float | None,
) -> dict:
    """Says what was found and what would have been found in other orders.

    Args:
        worklist: The bins.
        kept: All counts of them so far, at least one.
        learned: From all outcomes of the source.
        count_cost: What a count costs; None: nothing is said of costs.
        miss_cost: What a wrong record that is not found costs; likewise.

    Returns:
        JSON-ready: `superseded`, `conflicts`, `counted`, `yield`, `cost`, `error_rate`, `recalibration` and `says`.
    """
    held, conflicts = holding(kept)
    latest: dict[str, str] = {}
    for row in kept:
        latest[row.outcome.id] = max(row.outcome.when, latest.get(row.outcome.id, ""))
    with_record = [row for row in held if row.listed.recorded is not None]
    recorded = [row.listed.recorded or 0 for row in with_record]
    counted = [row.outcome.counted for row in with_record]
    wrong = sum(one != other for one, other in zip(recorded, counted, strict=True))
    judged = [row for row in with_record if row.listed.probabilities is not None]
    answer: dict = {
        "superseded": sum(row.outcome.when < latest[row.outcome.id] for row in kept),
        "conflicts": conflicts,
        "counted": {
            "bins": len(held),
            "without_record": len(held) - len(with_record),
            "not_judged": len(with_record) - len(judged),
            "learned_from": sum(row.listed.learned for row in judged),
            "wrong": wrong,
            "precision": _ends(share_of(wrong, len(with_record)), wrong / len(with_record)) if with_record else None,
            **differences_of(recorded, counted),
        },
        "yield": None,
        "cost": None,
    }
    if judged and learned.rate is not None:
        tally = _tally(worklist, judged, learned.rate, learned.temperature)
        found, bins = sum(row.listed.recorded != row.outcome.counted for row in judged), len(judged)
        orders = {"random": tally.at_random(bins), "recorded": tally.by_recorded(bins)}
        answer["yield"] = {
            "bins": bins,
            "found": found,
            "per_count": round(found / bins, 6),
            "at_random": list(orders["random"]),
            "by_recorded": list(orders["recorded"]),
            "among_the_first": round(sum(row.listed.place <= bins for row in judged) / bins, 6),
        }
        if count_cost is not None and miss_cost is not None:
            answer["cost"] = saved_of(found, orders, count_cost=count_cost, miss_cost=miss_cost, counts=bins)
    answer |= learned.facts
    return {**answer, "says": list(_says(answer))}


def _tally(worklist: Worklist, judged: Sequence[StoredOutcomes], rate: RateEstimate, temperature: float) -> CountYield:
    """All judged bins of the list: found where counted, expected where not."""
    tally, counts, prior = CountYield(rate), Counts.parse(worklist.origin.counts), np.asarray(worklist.origin.prior)
    wrong = {row.listed.place: float(row.listed.recorded != row.outcome.counted) for row in judged}
    for page in worklist.pages():
        rows = [row for row in page if row.probabilities is not None]
        if rows:
            recorded = np.asarray([row.recorded for row in rows])
            shown = np.asarray([row.probabilities for row in rows], dtype=float)
            evidence = CountedBins(shown, recorded, recorded, counts, prior).log_evidence(temperature)
            tally.add(recorded, evidence, np.asarray([wrong.get(row.place, np.nan) for row in rows]))
    return tally


def _says(answer: dict) -> Iterator[str]:
    counted, found, rate, again = (answer[name] for name in ("counted", "yield", "error_rate", "recalibration"))
    if counted["precision"]:
        yield f"{counted['wrong']} of {counted['bins'] - counted['without_record']} counted records were wrong."
    if found:
        yield (
            f"{found['among_the_first']:.0%} of the judged bins that were counted are among the first {found['bins']} "
            "of the list: the more, the less is the share wrong among them an error rate of all bins."
        )
    if rate["estimate"] is not None:
        yield (
            f"Of all records {rate['estimate']:.2%} are wrong ({rate['low']:.2%} to {rate['high']:.2%}), given what "
            f"photo and record of {rate['outcomes']} counted bins said. That holds however these were chosen by photo "
            "and record, and rests on the form of the model's calibration and on the pattern of errors; only the share "
            "wrong of bins drawn at random rests on neither."
        )
    if not rate["used"]:
        yield (
            f"Not enough for the next run: it takes {ENOUGH_FOR_RATE} such outcomes and an interval of {WIDEST:.0%} at "
            f"most, there are {rate['outcomes']}."
        )
    if again["outcomes"] < ENOUGH_TO_RECALIBRATE:
        yield (
            f"Not enough to recalibrate: it takes {ENOUGH_TO_RECALIBRATE} outcomes of this model on bins that it did "
            f"not learn from, there are {again['outcomes']}."
        )
    elif again["used"]:
        yield f"The next run tempers this model by {again['temperature']:g}: it then foretells counting better."
    else:
        yield "The model stays as it is: that another temperature foretells counting better may be chance."
    if answer["conflicts"]:
        yield "Bins whose counts of the same time differ are left out until a later count decides."


def _ends(share: RateEstimate, value: float) -> dict[str, float]:
    return {"estimate": round(value, 6), "low": round(share.low, 6), "high": round(share.high, 6)}


def differences_of(recorded: Sequence[int], counted: Sequence[int]) -> dict[str, dict[str, int]]:
    """Overs (more counted than recorded) and shorts (fewer), each by itself: one never makes up for the other.

    Returns:
        Of `overs` and `shorts` how many `bins` and by how many `items`.

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
class CountYield:
    """Wrong records by what is recorded: found where a bin was counted, expected where it was not.

    Attributes:
        bins: Number of bins by recorded count.
        wrong: Wrong records among them, at the rate's estimate and at the ends of its interval.
    """

    rate: RateEstimate
    bins: dict[int, int] = field(default_factory=dict)
    wrong: dict[int, np.ndarray] = field(default_factory=dict)

    def add(self, recorded: np.ndarray, log_evidence: np.ndarray, wrong: np.ndarray) -> None:
        """Takes bins in.

        Args:
            recorded: (N,) what the books say.
            log_evidence: (N,) logarithm of what each photo says of its record.
            wrong: (N,) 1 or 0 where counting found it wrong or right, NaN where it was not counted.
        """
        evidence = np.exp(np.clip(log_evidence, -np.log(MAX_MISMATCH_PROBABILITY), np.log(MAX_MISMATCH_PROBABILITY)))
        rates = np.asarray([self.rate.estimate, self.rate.low, self.rate.high])
        odds = evidence[:, None] * rates / (1 - rates)
        chance = np.where(np.isnan(wrong)[:, None], odds / (1 + odds), wrong[:, None])
        values, place = np.unique(recorded, return_inverse=True)
        for index, value in enumerate(values.tolist()):
            self.bins[value] = self.bins.get(value, 0) + int((place == index).sum())
            self.wrong[value] = self.wrong.get(value, np.zeros(3)) + chance[place == index].sum(axis=0)

    def at_random(self, count: int) -> tuple[float, float, float]:
        """Wrong records expected among so many bins drawn at random; with an interval."""
        total = sum(self.wrong.values(), np.zeros(3))
        return _three(total * count / max(1, sum(self.bins.values())))

    def by_recorded(self, count: int) -> tuple[float, float, float]:
        """Wrong records expected among so many bins of the largest recorded counts; equal ones in no order."""
        left, found = count, np.zeros(3)
        for value in sorted(self.bins, reverse=True):
            taken = min(left, self.bins[value])
            found += self.wrong[value] * taken / self.bins[value]
            left -= taken
        return _three(found)


def saved_of(
    found: int, others: Mapping[str, tuple[float, float, float]], *, count_cost: float, miss_cost: float, counts: int
) -> dict:
    """What counting was worth.

    Args:
        found: Wrong records found.
        others: What as many counts would have found in other orders, with intervals.
        count_cost: What a count costs.
        miss_cost: What a wrong record that is not found costs.
        counts: How many bins were counted.

    Returns:
        `spent`, `saved` by finding, `net` of both, and of each other order how much
        more this one saved (`against_...`), as value, low and high.

    Example:
        >>> saved_of(3, {"random": (1.0, 0.5, 2.0)}, count_cost=2.0, miss_cost=10.0, counts=5)
        {'spent': 10.0, 'saved': 30.0, 'net': 20.0, 'against_random': [20.0, 10.0, 25.0]}
    """
    spent, saved = count_cost * counts, miss_cost * found
    against = {
        f"against_{name}": [round(miss_cost * (found - other), 2) for other in (middle, high, low)]
        for name, (middle, low, high) in others.items()
    }
    return {"spent": round(spent, 2), "saved": round(saved, 2), "net": round(saved - spent, 2), **against}


def _three(values: np.ndarray) -> tuple[float, float, float]:
    middle, low, high = (round(float(value), 3) for value in values)
    return middle, low, high
