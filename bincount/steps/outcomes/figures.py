"""What the outcomes of a worklist are worth, in figures and in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from bincount.core.counted import Counted
from bincount.core.counts import Counts
from bincount.core.error_rate import ENOUGH_FOR_RATE, WIDEST, Share, share_of
from bincount.core.found import Tally, differences_of, saved_of
from bincount.core.recalibration import ENOUGH_TO_RECALIBRATE
from bincount.steps.outcomes.kept import Kept
from bincount.steps.outcomes.learned import Learned, holding
from bincount.steps.outcomes.listed import Worklist


def figures_of(
    worklist: Worklist, kept: Sequence[Kept], learned: Learned, *, count_cost: float | None, miss_cost: float | None
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


def _tally(worklist: Worklist, judged: Sequence[Kept], rate: Share, temperature: float) -> Tally:
    """All judged bins of the list: found where counted, expected where not."""
    tally, counts, prior = Tally(rate), Counts.parse(worklist.origin.counts), np.asarray(worklist.origin.prior)
    wrong = {row.listed.place: float(row.listed.recorded != row.outcome.counted) for row in judged}
    for page in worklist.pages():
        rows = [row for row in page if row.probabilities is not None]
        if rows:
            recorded = np.asarray([row.recorded for row in rows])
            shown = np.asarray([row.probabilities for row in rows], dtype=float)
            evidence = Counted(shown, recorded, recorded, counts, prior).log_evidence(temperature)
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


def _ends(share: Share, value: float) -> dict[str, float]:
    return {"estimate": round(value, 6), "low": round(share.low, 6), "high": round(share.high, 6)}
