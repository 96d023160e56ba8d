"""What the outcomes so far say of the books and of a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bincount.counts import Counts
from bincount.dataset.groups import block_of
from bincount.mismatch.likelihood import CountedBins
from bincount.mismatch.posterior import ERROR_RATE
from bincount.outcomes.error_rate import ENOUGH_FOR_RATE, RateEstimate, rate_of
from bincount.outcomes.outcome_store import OutcomeStore, StoredOutcomes, settle
from bincount.outcomes.recalibration import ENOUGH_TO_RECALIBRATE, recalibrate
from bincount.outcomes.worklist_reader import WorklistOrigin
from bincount.settings import Settings


@dataclass(frozen=True)
class Estimates:
    """What counting taught.

    Attributes:
        outcomes: How many counted bins it rests on: with a record and a photo, and none that a model learned from.
        rate: How often records are wrong, None without any.
        temperature: The model's most probable one beside this rate.
        of_model: How many of these bins the model itself was asked about.
        recalibrated: The temperature to use, 1 where nothing better is proved.
        facts: `error_rate` and `recalibration` in JSON-ready figures.
    """

    outcomes: int
    rate: RateEstimate | None
    temperature: float
    of_model: int
    recalibrated: float
    facts: dict


@dataclass(frozen=True)
class Assumptions:
    """What a reconciliation goes by.

    Attributes:
        error_rate: Share of records that are wrong.
        temperature: Of the model's probabilities, where a record is weighed against them.
        facts: Both, and where they are from, for the summary.
    """

    error_rate: float
    temperature: float
    facts: dict


def assumptions_for(
    settings: Settings, *, source: str, version: str, manifest: str, error_rate: float | None
) -> Assumptions:
    """Decides on an error rate and a temperature: what is said comes first, then what counting taught.

    Args:
        settings: Where the outcomes are.
        source: Where the photos are; other sources' records are wrong more or less often.
        version: The model's version.
        manifest: Digest of what it learned from.
        error_rate: What the caller says, None for nothing.

    Raises:
        DataError: If an outcome that was kept is damaged.
    """
    known = estimates_from(OutcomeStore(settings.outcomes).read(), source=source, version=version, manifest=manifest)
    if error_rate is not None:
        said, rate = {"by": "--error-rate", "outcomes": 0}, error_rate
    elif known.rate is not None and known.rate.is_known_by(known.outcomes):
        rate = round(known.rate.estimate, 6)
        said = {"by": "outcomes", "outcomes": known.outcomes, **_ends(known.rate)}
    else:
        said, rate = {"by": "default", "outcomes": known.outcomes, "needed": ENOUGH_FOR_RATE}, ERROR_RATE
    facts = {
        "error_rate": rate,
        "error_rate_from": said,
        "temperature": known.recalibrated,
        "recalibration": known.facts["recalibration"],
    }
    return Assumptions(rate, known.recalibrated, facts)


def estimates_from(
    kept: Mapping[WorklistOrigin, Sequence[StoredOutcomes]], *, source: str, version: str, manifest: str
) -> Estimates:
    """Estimates error rate and temperature from the outcomes of a source.

    A count that was imported for several worklists teaches once, of this
    model if it was among those asked. Left out are bins that a model learned
    from, since it believes their records too readily, and those whose record or photo it
    could not judge. Neither depends on what was found, so neither bends the rate.
    """
    model = (version, manifest)
    origins = sorted(
        (each for each in kept if each.source == source), key=lambda each: (_model(each) != model, each.worklist)
    )
    taken: set[tuple] = set()
    pools: dict[tuple, list[StoredOutcomes]] = {}
    for origin in origins:
        for row in holding(kept[origin])[0]:
            count = (row.outcome.id, row.outcome.when, row.outcome.counted, row.listed.recorded)
            if row.listed.probabilities is not None and not row.listed.learned and count not in taken:
                taken.add(count)
                pools.setdefault((*_model(origin), origin.counts, origin.prior), []).append(row)
    pooled = {key: counted_of(rows, key[2], key[3]) for key, rows in pools.items()}
    rate, temperatures = rate_of(list(pooled.values())) if pooled else (None, [])
    by_model = {key[:2]: temperature for key, temperature in zip(pooled, temperatures, strict=True)}
    own = next((key for key in pools if key[:2] == model), None)
    of_model = len(pools[own]) if own else 0
    recalibration: dict = {"outcomes": of_model, "needed": ENOUGH_TO_RECALIBRATE, "used": False}
    recalibrated = 1.0
    if own and of_model >= ENOUGH_TO_RECALIBRATE:
        found = recalibrate(pooled[own], [block_of(row.outcome.id) for row in pools[own]])
        gain = [round(value, 5) for value in (found.gain, found.low, found.high)]
        recalibrated = found.temperature if found.helps else 1.0
        recalibration |= {"temperature": found.temperature, "gain": gain, "used": found.helps}
    facts: dict = {"outcomes": len(taken), "needed": ENOUGH_FOR_RATE, "estimate": None, "used": False}
    if rate is not None:
        facts |= {"estimate": round(rate.estimate, 6), **_ends(rate), "used": rate.is_known_by(len(taken))}
    return Estimates(
        *(len(taken), rate, by_model.get(model, 1.0), of_model, recalibrated),
        facts={"error_rate": facts, "recalibration": recalibration},
    )


def holding(rows: Iterable[StoredOutcomes]) -> tuple[list[StoredOutcomes], list[str]]:
    """The rows whose count holds, and the ids of bins in conflict: `outcomes.outcome_store.settle`."""
    by_outcome = {row.outcome: row for row in rows}
    held, conflicts = settle(by_outcome)
    return [by_outcome[outcome] for outcome in held], conflicts


def counted_of(rows: Sequence[StoredOutcomes], counts: str, prior: Sequence[float]) -> CountedBins:
    """Rows of one model that were judged, as arrays."""
    return CountedBins(
        probabilities=np.asarray([row.listed.probabilities for row in rows], dtype=float),
        recorded=np.asarray([row.listed.recorded for row in rows]),
        counted=np.asarray([row.outcome.counted for row in rows]),
        counts=Counts.parse(counts),
        prior=np.asarray(prior),
    )


def _model(origin: WorklistOrigin) -> tuple[str, str]:
    return origin.model_version, origin.manifest


def _ends(share: RateEstimate) -> dict[str, float]:
    return {"low": round(share.low, 6), "high": round(share.high, 6)}
