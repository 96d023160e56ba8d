"""Bins, records and photos that are drawn, so that what an estimate should find is known."""

import numpy as np

from bincount.counts import Counts
from bincount.mismatch.likelihood import CountedBins, tempered
from bincount.mismatch.posterior import errors_of, record_posterior
from bincount.outcomes.outcome_store import Outcome, StoredOutcomes
from bincount.outcomes.worklist_reader import ListedRecord, WorklistOrigin

FIVE = Counts.parse("1-5")


def simulate(seed, *, bins, rate, sureness=1.0):
    """Photos of bins by a model that is calibrated but for its sureness, records, and what is there.

    A count is drawn with the very probability that a photo shows; a record is
    drawn, made wrong or not, and given a photo of what is there then.
    """
    rng = np.random.default_rng(seed)
    shown = np.exp(1.2 * rng.normal(size=(50_000, 5)))
    shown /= shown.sum(axis=1, keepdims=True)
    shows = (shown.cumsum(axis=1) > rng.random((len(shown), 1))).argmax(axis=1)
    prior = np.bincount(shows, minlength=5) / len(shows)
    recorded = rng.choice(5, size=bins, p=prior)
    there = recorded.copy()
    for row in np.flatnonzero(rng.random(bins) < rate):
        there[row] = rng.choice(5, p=errors_of(int(recorded[row]) + 1, FIVE)[:2].sum(axis=0))
    photo = np.empty(bins, dtype=int)
    for index in range(5):
        photo[there == index] = rng.choice(np.flatnonzero(shows == index), size=int((there == index).sum()))
    said = tempered(shown[photo], 1 / sureness).round(6)
    return CountedBins(said, recorded + 1, there + 1, FIVE, prior)


def chosen(bins, how, count):
    """The worst bins of a list, or bins drawn at random."""
    if how == "random":
        return bins.part(np.random.default_rng(1).choice(len(bins), count, replace=False))
    variance = record_posterior(bins.probabilities, bins.recorded, bins.counts, bins.prior)
    return bins.part(np.argsort(-variance.probability)[:count])


def kept_rows(seed, worklist="w", bins=400, sureness=1.0, learned=False, version="1", **about):
    """Outcomes of bins drawn at random, by a model that is surer than it should be."""
    made = simulate(seed, bins=bins, rate=0.1, sureness=sureness)
    told = {"source": "s3://b", "manifest": "m", "counts": "1-5", **about}
    origin = WorklistOrigin(
        worklist=worklist, model_version=version, prior=tuple(made.prior.tolist()), is_source=learned, **told
    )
    rows = []
    for row in range(bins):
        bin_id = f"{20_000 + 20 * row}"
        listed = ListedRecord(
            bin_id, row + 1, int(made.recorded[row]), tuple(made.probabilities[row].tolist()), learned
        )
        rows.append(StoredOutcomes(listed, Outcome(bin_id, "2026-11-20T00:00:00+00:00", int(made.counted[row]))))
    return origin, rows
