"""Error rate and model temperature, estimated from all outcomes of a source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bincount.counts import Counts
from bincount.dataset.groups import block_of
from bincount.mismatch.likelihood import CountedBins
from bincount.mismatch.posterior import ERROR_RATE
from bincount.outcomes.error_rate import MIN_BINS_FOR_RATE, RateInterval, estimate_error_rate
from bincount.outcomes.outcome_store import JoinedOutcome, latest_counts
from bincount.outcomes.recalibration import MIN_BINS_TO_RECALIBRATE, fit_temperature
from bincount.outcomes.worklist_reader import Origin


@dataclass(frozen=True)
class Estimates:
    """Estimates from outcomes.

    Attributes:
        outcomes: Number of counted bins used: with a record and a photo, and in no model's training data.
        rate: How often records are wrong, None without outcomes.
        rate_temperature: The model's most probable temperature at this rate.
        model_outcomes: How many of these bins the model itself scored.
        temperature: The temperature to use; 1 unless another increases the held-out likelihood.
        facts: `error_rate` and `recalibration`, JSON-ready.
    """

    outcomes: int
    rate: RateInterval | None
    rate_temperature: float
    model_outcomes: int
    temperature: float
    facts: dict


@dataclass(frozen=True)
class JudgingParameters:
    """Parameters with which a reconciliation computes its verdicts.

    Attributes:
        error_rate: Share of records that are wrong.
        temperature: Of the model's probabilities.
        facts: Both and where they are from, for the summary.
    """

    error_rate: float
    temperature: float
    facts: dict


def choose_parameters(
    stored: Mapping[Origin, Sequence[JoinedOutcome]],
    *,
    source: str,
    version: str,
    manifest: str,
    error_rate: float | None,
) -> JudgingParameters:
    """Chooses error rate and temperature: a given rate first, then the estimate from outcomes, then the default.

    Args:
        stored: All outcomes, by worklist.
        source: Where the photos are; error rates differ between sources.
        version: The model's version.
        manifest: Digest of the manifest that it was trained on.
        error_rate: The rate given by the caller, if any.
    """
    estimates = estimate_from_outcomes(stored, source=source, version=version, manifest=manifest)
    if error_rate is not None:
        origin, rate = {"by": "--error-rate", "outcomes": 0}, error_rate
    elif estimates.rate is not None and estimates.rate.is_usable(estimates.outcomes):
        rate = round(estimates.rate.estimate, 6)
        origin = {"by": "outcomes", "outcomes": estimates.outcomes, **_ends(estimates.rate)}
    else:
        origin, rate = {"by": "default", "outcomes": estimates.outcomes, "needed": MIN_BINS_FOR_RATE}, ERROR_RATE
    facts = {
        "error_rate": rate,
        "error_rate_from": origin,
        "temperature": estimates.temperature,
        "recalibration": estimates.facts["recalibration"],
    }
    return JudgingParameters(rate, estimates.temperature, facts)


def estimate_from_outcomes(
    stored: Mapping[Origin, Sequence[JoinedOutcome]], *, source: str, version: str, manifest: str
) -> Estimates:
    """Estimates error rate and temperature from the outcomes of a source.

    A count that was imported for several worklists is used once, with this
    model's scores if it has any. Bins in a model's training data are left out, since
    its probabilities are overconfident there, and so are bins without a verdict. Neither
    depends on the count found, so neither biases the rate.
    """
    model = (version, manifest)
    origins = sorted(
        (each for each in stored if each.source == source), key=lambda each: (_model(each) != model, each.worklist)
    )
    used: set[tuple] = set()
    pools: dict[tuple, list[JoinedOutcome]] = {}
    for origin in origins:
        for row in settled_rows(stored[origin])[0]:
            count = (row.outcome.id, row.outcome.when, row.outcome.counted, row.listed.recorded)
            if row.listed.probabilities is not None and not row.listed.in_training and count not in used:
                used.add(count)
                pools.setdefault((*_model(origin), origin.counts, origin.prior), []).append(row)
    pooled = {key: counted_bins_of(rows, key[2], key[3]) for key, rows in pools.items()}
    rate, temperatures = estimate_error_rate(list(pooled.values())) if pooled else (None, [])
    by_model = {key[:2]: temperature for key, temperature in zip(pooled, temperatures, strict=True)}
    own = next((key for key in pools if key[:2] == model), None)
    model_outcomes = len(pools[own]) if own else 0
    recalibration: dict = {"outcomes": model_outcomes, "needed": MIN_BINS_TO_RECALIBRATE, "used": False}
    temperature = 1.0
    if own and model_outcomes >= MIN_BINS_TO_RECALIBRATE:
        fit = fit_temperature(pooled[own], [block_of(row.outcome.id) for row in pools[own]])
        gain = [round(value, 5) for value in (fit.gain, fit.low, fit.high)]
        temperature = fit.temperature if fit.improves else 1.0
        recalibration |= {"temperature": fit.temperature, "gain": gain, "used": fit.improves}
    facts: dict = {"outcomes": len(used), "needed": MIN_BINS_FOR_RATE, "estimate": None, "used": False}
    if rate is not None:
        facts |= {"estimate": round(rate.estimate, 6), **_ends(rate), "used": rate.is_usable(len(used))}
    return Estimates(
        outcomes=len(used),
        rate=rate,
        rate_temperature=by_model.get(model, 1.0),
        model_outcomes=model_outcomes,
        temperature=temperature,
        facts={"error_rate": facts, "recalibration": recalibration},
    )


def settled_rows(rows: Iterable[JoinedOutcome]) -> tuple[list[JoinedOutcome], list[str]]:
    """The row used for each bin, and the ids of bins in conflict (`outcome_store.latest_counts`)."""
    by_outcome = {row.outcome: row for row in rows}
    used, conflicts = latest_counts(by_outcome)
    return [by_outcome[outcome] for outcome in used], conflicts


def counted_bins_of(rows: Sequence[JoinedOutcome], counts: str, prior: Sequence[float]) -> CountedBins:
    """Rows of one model that have a verdict, as arrays."""
    return CountedBins(
        probabilities=np.asarray([row.listed.probabilities for row in rows], dtype=float),
        recorded=np.asarray([row.listed.recorded for row in rows]),
        counted=np.asarray([row.outcome.counted for row in rows]),
        counts=Counts.parse(counts),
        prior=np.asarray(prior),
    )


def _model(origin: Origin) -> tuple[str, str]:
    return origin.model_version, origin.manifest


def _ends(rate: RateInterval) -> dict[str, float]:
    return {"low": round(rate.low, 6), "high": round(rate.high, 6)}
