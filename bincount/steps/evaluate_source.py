"""Judges any registered model on any bins, straight from their source."""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bincount.core.counts import Counts
from bincount.core.errors import ConfigError, DataError
from bincount.core.evaluation import LEARNED, judge
from bincount.core.familiar import familiar_bins, is_another_bucket
from bincount.core.groups import groups_of
from bincount.core.manifest import Manifest, Record
from bincount.core.rejected import Rejected
from bincount.core.split import part_of
from bincount.edge import registry
from bincount.edge.settings import Settings
from bincount.edge.store import Store, open_store
from bincount.steps.source_bins import Bins, Predicted, predict_bins, read_bins

if TYPE_CHECKING:
    from bincount.learn.predict import Predictor

_log = logging.getLogger(__name__)


def evaluate_source(
    settings: Settings,
    *,
    model: str,
    source: str,
    ids: str | None = None,
    counts: str | None = None,
    limit: int | None = None,
) -> dict:
    """Scores a registered model on the bins of a source, all of them but those it has learned from.

    Nothing is kept on disk: metadata are read first, then photos go through
    the model as they arrive.

    Args:
        settings: Names tracking server, buckets and the workspace with the model's manifest.
        model: "models:/bincount/VERSION" or "models:/bincount@ALIAS".
        source: "s3://BUCKET" or a folder in the bucket's layout.
        ids: A file of ids or a range such as "00001-01999"; None lists the source.
        counts: Only bins with these counts, such as "1-5", all of which the model must know; None: all it knows.
        limit: How many bins to draw, None for all.

    Returns:
        exact, within_one, mae, rmse, nll, rps, ece and the other `metrics` of
        `core.evaluation.judge`, flat, beside its intervals, baselines and
        tables; `model`, `source`, `counts`, `set_aside` (bins by reason) and
        `learned_from`: "known", or "unknown" where the model's manifest is not in this workspace.

    Raises:
        ConfigError: If there is no such model, source or count.
        DataError: If no bin is left to judge.
        StoreError: If the source or the tracking server does not answer.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit: must be 1 or more, got {limit!r}. Leave it out for all bins.")
    store = open_store(source, settings)
    version = registry.version_of(settings, registry.version_named(settings, model))
    with tempfile.TemporaryDirectory() as folder:
        fetched = registry.fetch_model(settings, version.version, Path(folder))
        from bincount.learn.predict import Predictor

        predictor = Predictor(fetched)
    bins = read_bins(store, ids=ids, counts=_wanted(counts, predictor.counts), limit=limit)
    learned = _learned(settings, predictor.facts["manifest"], version.tags.get("bincount.source"), store.source, bins)
    familiar = familiar_bins(bins.recorded, bins.skus, learned) if learned else {}
    records, probabilities, sharpness, rejected = _answers(store, bins, familiar, predictor)
    set_aside = Counter([*familiar.values(), *(one.reason for one in rejected)])
    if bins.others:
        set_aside[f"its count is none of {counts or predictor.counts}"] = bins.others
    if not records:
        reasons = ", ".join(f"{number} x {reason}" for reason, number in set_aside.most_common()) or "nothing found"
        raise DataError(f"{store.source}: must hold a bin to judge, got none ({reasons}). Name other bins.")
    evaluation = judge(probabilities, records, predictor.counts, sharpness)
    _log.info("judged %d bins of %s with version %s", len(records), store.source, version.version)
    return {
        **evaluation.pop("metrics"),
        "model": f"models:/{registry.MODEL}/{version.version}",
        "source": store.source,
        "counts": str(predictor.counts),
        "set_aside": dict(set_aside.most_common()),
        "learned_from": "unknown" if learned is None else "known",
        **evaluation,
    }


def _wanted(counts: str | None, known: Counts) -> Counts:
    wanted = Counts.parse(counts) if counts else known
    strange = set(zip(wanted.values, wanted.names, strict=True)) - set(zip(known.values, known.names, strict=True))
    if strange:
        raise ConfigError(
            f"--counts: must be among the counts the model knows, {known}, got {counts!r}. "
            "Leave it out for all of them."
        )
    return wanted


def _learned(
    settings: Settings, manifest: str, learned_source: str | None, source: str, bins: Bins
) -> Callable[[str], bool] | None:
    """Tells by its id whether the model learned from a bin; None where nobody knows."""
    try:
        records = Manifest.read(settings.manifests, manifest).records
    except DataError:
        if learned_source == source:  # a bin's part follows from its id, so it can have learned from no other
            return lambda bin_id: part_of(bin_id) in LEARNED
        _log.warning(
            "manifest %s is not in this workspace: bins that the model learned from cannot be set aside", manifest
        )
        return None
    learned: Mapping[str, Record] = {record.id: record for record in records if record.part in LEARNED}
    if learned_source != source and is_another_bucket(bins.recorded, bins.skus, learned):
        _log.info("%s: its ids name other bins than those that the model learned from", source)
        return lambda bin_id: False
    return learned.__contains__


def _answers(
    store: Store, bins: Bins, familiar: Collection[str], predictor: Predictor
) -> tuple[list[Record], np.ndarray, list[float], list[Rejected]]:
    """Records, (N, C) distributions and sharpness of what can be judged, and what cannot."""
    from bincount.learn.sharpness import sharpness_of

    groups = groups_of(bins.skus, bins.skus)
    ids = [bin_id for bin_id in bins.recorded if bin_id not in familiar]
    records: list[Record] = []
    rows: list[np.ndarray] = []
    sharpness: list[float] = []
    rejected = list(bins.rejected)
    for one in predict_bins(store, ids, predictor):
        if isinstance(one, Rejected):
            _log.warning("bin %s is set aside: %s", one.id, one.reason)
            rejected.append(one)
            continue
        records.append(_record(one, groups[one.id], bins))
        rows.append(one.probabilities)
        sharpness.append(sharpness_of(one.photo))
    return records, np.stack(rows) if rows else np.empty(0), sharpness, rejected


def _record(one: Predicted, group: str, bins: Bins) -> Record:
    return Record(
        id=one.id,
        group=group,
        recorded=bins.recorded[one.id],
        part="",  # it stands in no manifest and in no shard
        n_skus=len(bins.skus[one.id]),
        width_px=one.width_px,
        height_px=one.height_px,
        size_bytes=len(one.photo),
        etag=one.etag,
        shard=-1,
        offset=-1,
    )
