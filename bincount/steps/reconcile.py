"""Finds the bins whose record is wrong, worst first."""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path

from bincount.core.calibration import Calibration
from bincount.core.conformal import ALPHA
from bincount.core.digest import digest_of
from bincount.core.errors import BincountError, ConfigError
from bincount.core.reference import Reference
from bincount.core.variance import ERROR_RATE
from bincount.edge import registry
from bincount.edge.settings import Settings
from bincount.edge.store import Store, open_store
from bincount.edge.table import Table
from bincount.steps.outcomes.learned import assume
from bincount.steps.reconciling.judging import judge
from bincount.steps.reconciling.loading import load_bucket, load_table, read_metadata
from bincount.steps.reconciling.publishing import make_folder, publish
from bincount.steps.reconciling.scoring import score_photos
from bincount.steps.reconciling.watching import watch
from bincount.steps.reconciling.work import COLUMNS, Work
from bincount.steps.reconciling.writing import About, figures_of
from bincount.steps.scored import digest_of_model

_log = logging.getLogger(__name__)


def reconcile(
    settings: Settings,
    *,
    source: str,
    out: str,
    records: str | None = None,
    model: str = "models:/bincount@champion",
    capacity: int | None = None,
    count_cost: float | None = None,
    miss_cost: float | None = None,
    error_rate: float | None = None,
    alpha: float = ALPHA,
    blind: bool = False,
) -> dict:
    """Holds records against photos and lists the bins in the order in which to count them.

    Every bin is accounted for: those that match as evidence, those without a
    sound photo or record with the reason. The same records, photos and model
    give the same files. A killed run goes on where it was when asked again.
    Nothing changes any record.

    Args:
        settings: Names workspace, buckets and tracking server.
        source: "s3://BUCKET" or a folder in the bucket's layout; photos are taken from it.
        out: Folder for `worklist.csv`, `worklist.jsonl`, `summary.json` and `report.html`.
        records: CSV or parquet with the columns id and recorded, and, as you
            like, location and unit_value; None takes the source's own metadata.
        model: "models:/bincount@ALIAS" or "models:/bincount/VERSION".
        capacity: How many bins can be counted.
        count_cost: What it costs to count a bin; with `miss_cost`, instead of `capacity`.
        miss_cost: What a wrong record that is not found costs.
        error_rate: Share of records that are wrong; None takes what counting
            found in this source so far, and without enough of that 0.02.
        alpha: Share of right records that may be called a mismatch.
        blind: Whether the report is for the person who counts: the bins to
            count, without what is recorded and what the model sees. The lists hold both.

    Returns:
        The summary but for its curve, and `out`.

    Raises:
        ConfigError: If a setting is wrong, or the model was registered without a calibration.
        DataError: If the records are not what they should be.
        StoreError: If bucket or tracking server do not answer; what was counted is kept.
    """
    _check(capacity, count_cost, miss_cost, error_rate, alpha)
    folder = Path(out).expanduser()
    store, table = open_store(source, settings), None if records is None else Table(Path(records).expanduser())
    version = registry.version_named(settings, model)
    tags = registry.version_of(settings, version).tags
    with tempfile.TemporaryDirectory() as place:
        fetched = registry.fetch_model(settings, version, Path(place))
        calibration = Calibration.read(fetched)
        if calibration is None:
            raise ConfigError(
                f"model: version {version} must have a calibration, got none: it was registered before there were any. "
                "Run `bincount register` for its run again, or train anew."
            )
        facts = json.loads((fetched / "model.json").read_text())
        request = {
            "source": store.source,
            "records": table and table.digest,
            "model": digest_of_model(fetched),
            "columns": COLUMNS,  # what an older release began cannot be gone on with
        }
        reference = Reference.read(fetched)
        with Work(settings.reconciles / f"{digest_of(request)}.db") as work:
            _load(work, store, table)
            make_folder(folder)  # before hours of counting
            from bincount.learn.predict import Predictor

            score_photos(work, store, Predictor(fetched, features=True), reference)
            manifest = str(facts["manifest"])
            assumed = assume(settings, source=store.source, version=version, manifest=manifest, error_rate=error_rate)
            has_values = work.count("unit_value IS NOT NULL") > 0
            judge(
                work,
                calibration,
                error_rate=assumed.error_rate,
                alpha=alpha,
                temperature=assumed.temperature,
                miss_cost=miss_cost if miss_cost is not None else 0.0 if has_values else 1.0,
                is_source=tags.get("bincount.source") == store.source,
            )
            about = About(store.source, version, manifest, calibration.counts, alpha)
            figures = figures_of(work, capacity=capacity, count_cost=count_cost)
            summary = {
                "source": store.source,
                "records": table.name if table else None,
                "records_digest": table and table.digest,
                "model_version": version,
                "manifest": about.manifest,
                "counts": str(about.counts),
                "prior": calibration.prior.tolist(),
                **assumed.facts,
                "alpha": alpha,
                "capacity": capacity,
                "count_cost": count_cost,
                "miss_cost": miss_cost,
                "blind": blind,
                "pooled": calibration.pooled(alpha=alpha),
                "drift": watch(work, reference, about.counts, settings.drift),
                **figures,
            }
            publish(work, store, about, summary, folder)
            work.remove()
    _log.info("%s: %d bins, %.1f records expected to be wrong", folder, summary["bins"], summary["expected_wrong"])
    return {**{name: value for name, value in summary.items() if name != "curve"}, "out": str(folder)}


def _check(
    capacity: int | None, count_cost: float | None, miss_cost: float | None, error_rate: float | None, alpha: float
) -> None:
    if capacity is not None and (count_cost is not None or capacity < 1):
        found = f"{capacity} and --count-cost {count_cost}" if count_cost is not None else capacity
        raise ConfigError(f"--capacity: must be 1 or more, and stand without --count-cost, got {found}. Choose one.")
    if count_cost is not None and miss_cost is None:
        raise ConfigError("--count-cost: must stand with --miss-cost, got it alone. Say what a missed error costs.")
    for flag, value in {"--count-cost": count_cost, "--miss-cost": miss_cost}.items():
        if value is not None and not 0 <= value < 1e12:
            raise ConfigError(f"{flag}: must be a number >= 0, got {value!r}. Any currency does, the same for both.")
    for flag, share, usual in (("--error-rate", error_rate, ERROR_RATE), ("--alpha", alpha, ALPHA)):
        if share is not None and not 0 < share < 1:  # before hours of counting
            raise ConfigError(f"{flag}: must be above 0 and below 1, got {share!r}. Try {usual}.")


def _load(work: Work, store: Store, table: Table | None) -> None:
    if not work.is_loaded:
        try:
            load_bucket(work, store) if table is None else load_table(work, table)
        except BincountError:
            work.remove()  # nothing to go on from
            raise
    read_metadata(work, store)
