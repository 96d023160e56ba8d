"""What the outcomes so far say of the books and of a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bincount.counts import Counts
from bincount.dataset.groups import block_of
from bincount.mismatch.likelihood import CountedBins
from bincount.mismatch.posterior import ERROR_RATE
from bincount.outcomes.error_rate import MIN_BINS_FOR_RATE, RateInterval, estimate_error_rate
from bincount.outcomes.outcome_store import JoinedOutcome, OutcomeStore, latest_counts
from bincount.outcomes.recalibration import MIN_BINS_TO_RECALIBRATE, fit_temperature
from bincount.outcomes.worklist_reader import Origin
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
    rate: RateInterval | None
    rate_temperature: float
    model_outcomes: int
    temperature: float
    facts: dict


@dataclass(frozen=True)
class JudgingParameters:
    """What a reconciliation goes by.

    Attributes:
        error_rate: Share of records that are wrong.
        temperature: Of the model's probabilities, where a record is weighed against them.
        facts: Both, and where they are from, for the summary.
    """

    error_rate: float
    temperature: float
    facts: dict


def choose_parameters(
    settings: Settings, *, source: str, version: str, manifest: str, error_rate: float | None
) -> JudgingParameters:
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
    known = estimate_from_outcomes(
        OutcomeStore(settings.outcomes).read(), source=source, version=version, manifest=manifest
    )
    if error_rate is not None:
        said, rate = {"by": "--error-rate", "outcomes": 0}, error_rate
    elif known.rate is not None and known.rate.is_usable(known.outcomes):
        rate = round(known.rate.estimate, 6)
        said = {"by": "outcomes", "outcomes": known.outcomes, **_ends(known.rate)}
    else:
        said, rate = {"by": "default", "outcomes": known.outcomes, "needed": MIN_BINS_FOR_RATE}, ERROR_RATE
    facts = {
        "error_rate": rate,
        "error_rate_from": said,
        "temperature": known.temperature,
        "recalibration": known.facts["recalibration"],
    }
    return JudgingParameters(rate, known.temperature, facts)


def estimate_from_outcomes(
    kept: Mapping[Origin, Sequence[JoinedOutcome]], *, source: str, version: str, manifest: str
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
    pools: dict[tuple, list[JoinedOutcome]] = {}
    for origin in origins:
        for row in settled_rows(kept[origin])[0]:
            count = (row.outcome.id, row.outcome.when, row.outcome.counted, row.listed.recorded)
            if row.listed.probabilities is not None and not row.listed.learned and count not in taken:
                taken.add(count)
                pools.setdefault((*_model(origin), origin.counts, origin.prior), []).append(row)
    pooled = {key: counted_bins_of(rows, key[2], key[3]) for key, rows in pools.items()}
    rate, temperatures = estimate_error_rate(list(pooled.values())) if pooled else (None, [])
    by_model = {key[:2]: temperature for key, temperature in zip(pooled, temperatures, strict=True)}
    own = next((key for key in pools if key[:2] == model), None)
    of_model = len(pools[own]) if own else 0
    recalibration: dict = {"outcomes": of_model, "needed": MIN_BINS_TO_RECALIBRATE, "used": False}
    recalibrated = 1.0
    if own and of_model >= MIN_BINS_TO_RECALIBRATE:
        found = fit_temperature(pooled[own], [block_of(row.outcome.id) for row in pools[own]])
        gain = [round(value, 5) for value in (found.gain, found.low, found.high)]
        recalibrated = found.temperature if found.improves else 1.0
        recalibration |= {"temperature": found.temperature, "gain": gain, "used": found.improves}
    facts: dict = {"outcomes": len(taken), "needed": MIN_BINS_FOR_RATE, "estimate": None, "used": False}
    if rate is not None:
        facts |= {"estimate": round(rate.estimate, 6), **_ends(rate), "used": rate.is_usable(len(taken))}
    return Estimates(
        *(len(taken), rate, by_model.get(model, 1.0), of_model, recalibrated),
        facts={"error_rate": facts, "recalibration": recalibration},
    )


def settled_rows(rows: Iterable[JoinedOutcome]) -> tuple[list[JoinedOutcome], list[str]]:
    """The rows whose count holds, and the ids of bins in conflict: `outcomes.outcome_store.latest_counts`."""
    by_outcome = {row.outcome: row for row in rows}
    held, conflicts = latest_counts(by_outcome)
    return [by_outcome[outcome] for outcome in held], conflicts


def counted_bins_of(rows: Sequence[JoinedOutcome], counts: str, prior: Sequence[float]) -> CountedBins:
    """Rows of one model that were judged, as arrays."""
    return CountedBins(
        probabilities=np.asarray([row.listed.probabilities for row in rows], dtype=float),
        recorded=np.asarray([row.listed.recorded for row in rows]),
        counted=np.asarray([row.outcome.counted for row in rows]),
        counts=Counts.parse(counts),
        prior=np.asarray(prior),
    )


def _model(origin: Origin) -> tuple[str, str]:
    return origin.model_version, origin.manifest


def _ends(share: RateInterval) -> dict[str, float]:
    return {"low": round(share.low, 6), "high": round(share.high, 6)}
