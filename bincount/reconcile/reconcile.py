"""Finds the bins whose record is wrong, worst first."""

from __future__ import annotations

import json
import logging
import re
import tempfile
from pathlib import Path
from typing import Any

from bincount.config import ReconcileConfig
from bincount.dataset.table_reader import Table
from bincount.errors import BincountError, ConfigError
from bincount.evaluate.batch_inference import digest_of_model
from bincount.evaluate.drift_baseline import DriftBaseline
from bincount.files import digest_of
from bincount.mismatch.calibration import Calibration
from bincount.outcomes.estimates import assumptions_for
from bincount.reconcile.drift_check import check_drift
from bincount.reconcile.records import load_bucket, load_table, read_metadata
from bincount.reconcile.report import make_folder, publish
from bincount.reconcile.scoring import score_photos
from bincount.reconcile.state import COLUMNS, ReconcileState
from bincount.reconcile.worklist import judge_worklist
from bincount.reconcile.worklist_files import WorklistInfo, figures_of
from bincount.settings import Settings
from bincount.store.interface import Store
from bincount.store.open_store import open_store
from bincount.tracking import model_registry, runs
from bincount.tracking.client import RECONCILE_EXPERIMENT

_log = logging.getLogger(__name__)

_VERSION = "bincount.model_version"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PARAMS = (
    *("source", "records", "records_digest", "model_version", "manifest", "counts"),
    *("error_rate", "alpha", "capacity", "count_cost", "miss_cost", "blind"),
)
_METRICS = ("bins", "judged", "expected_wrong", "to_count", "expected_found", "expected_found_at_random")


def reconcile(
    settings: Settings, *, out: str | None = None, track: bool = False, attempt: str | None = None, **config: Any
) -> dict:
    """Compares inventory records with photos and lists the bins to count, the most probably wrong first.

    Every bin is accounted for: those that match as evidence, those without a
    sound photo or record with the reason. The same records, photos and model
    give the same files. A killed run continues when it is started again.
    Nothing changes any record.

    Args:
        settings: Names workspace, buckets and tracking server.
        out: Folder for `worklist.csv`, `worklist.jsonl`, `summary.json` and
            `report.html`: "worklist" where None, and never given with `track`.
        track: Whether the files become artifacts of an MLflow run of their own.
            Then `records` is the name of a file in the workspace's folder
            `records` and no path: a form must not reach the rest of this machine.
        attempt: With `track`, what is being attempted, such as the id of a DAG run: a retry
            finds its MLflow run again, and keeps the version that it began with.
        **config: What `ReconcileConfig` takes.

    Returns:
        The summary but for its curve, and `out`, or with `track`
        `run_id` and `says`, the summary in a sentence.

    Raises:
        ConfigError: If a setting is wrong, or the model was registered without a calibration.
        DataError: If the records are not what they should be.
        StoreError: If bucket or tracking server do not answer; what was counted is kept.
    """
    asked = ReconcileConfig(**config)
    if track and out is not None:
        raise ConfigError(f"--out: must not stand with --track, which names the folder itself, got {out!r}.")
    if track:
        return _track(settings, asked, attempt)
    folder = Path(out or "worklist").expanduser()
    records = None if asked.records is None else Path(asked.records).expanduser()
    summary = _write_worklist(settings, asked, records, asked.model, folder)
    return {**_without_curve(summary), "out": str(folder)}


def _without_curve(summary: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in summary.items() if name != "curve"}


def _track(settings: Settings, asked: ReconcileConfig, attempt: str | None) -> dict:
    """Reconciles in `data/runs/<run_id>/reconcile` and logs the files to an MLflow run."""
    records = None if asked.records is None else _records_file(settings, asked.records)
    version = model_registry.version_named(settings, asked.model)
    run_id = runs.open_run(settings, attempt=attempt, experiment=RECONCILE_EXPERIMENT)
    version = runs.run_tags(settings, run_id).get(_VERSION, version)
    runs.log_tags(settings, run_id, {_VERSION: version})
    _log.info("run %s of experiment %s, version %s", run_id, RECONCILE_EXPERIMENT, version)
    place = settings.run(run_id) / "reconcile"
    with runs.marking_failed(settings, run_id):
        if not (place / "summary.json").exists():
            _write_worklist(settings, asked, records, f"models:/{model_registry.MODEL}/{version}", place)
        summary = json.loads((place / "summary.json").read_text())
        _log_run(settings, run_id, place, summary)
    runs.finish_run(settings, run_id)
    says = _sentence(summary)
    _log.info("%s", says)
    return {**_without_curve(summary), "run_id": run_id, "says": says}


def _write_worklist(
    settings: Settings, asked: ReconcileConfig, records: Path | None, model: str, folder: Path
) -> dict[str, Any]:
    """Scores the photos, judges the records and writes the files; returns the summary."""
    store, table = open_store(asked.source, settings), None if records is None else Table(records)
    version = model_registry.version_named(settings, model)
    tags = model_registry.version_of(settings, version).tags
    with tempfile.TemporaryDirectory() as place:
        fetched = model_registry.fetch_model(settings, version, Path(place))
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
        reference = DriftBaseline.read(fetched)
        with ReconcileState(settings.reconciles / f"{digest_of(request)}.db") as work:
            _load(work, store, table)
            make_folder(folder)  # before hours of counting
            from bincount.learn.predictor import Predictor

            score_photos(work, store, Predictor(fetched), reference)
            manifest = str(facts["manifest"])
            assumed = assumptions_for(
                settings, source=store.source, version=version, manifest=manifest, error_rate=asked.error_rate
            )
            has_values = work.count("unit_value IS NOT NULL") > 0
            judge_worklist(
                work,
                calibration,
                error_rate=assumed.error_rate,
                alpha=asked.alpha,
                temperature=assumed.temperature,
                miss_cost=asked.miss_cost if asked.miss_cost is not None else 0.0 if has_values else 1.0,
                is_source=tags.get("bincount.source") == store.source,
            )
            about = WorklistInfo(store.source, version, manifest, calibration.counts, asked.alpha)
            figures = figures_of(work, capacity=asked.capacity, count_cost=asked.count_cost)
            summary = {
                "source": store.source,
                "records": table.name if table else None,
                "records_digest": table and table.digest,
                "model_version": version,
                "manifest": about.manifest,
                "counts": str(about.counts),
                "prior": calibration.prior.tolist(),
                **assumed.facts,
                "alpha": asked.alpha,
                "capacity": asked.capacity,
                "count_cost": asked.count_cost,
                "miss_cost": asked.miss_cost,
                "blind": asked.blind,
                "pooled": calibration.pooled(alpha=asked.alpha),
                "drift": check_drift(work, reference, about.counts, settings.drift),
                **figures,
            }
            publish(work, store, about, summary, folder)
            work.remove()
    _log.info("%s: %d bins, %.1f records expected to be wrong", folder, summary["bins"], summary["expected_wrong"])
    return summary


def _load(work: ReconcileState, store: Store, table: Table | None) -> None:
    if not work.is_loaded:
        try:
            load_bucket(work, store) if table is None else load_table(work, table)
        except BincountError:
            work.remove()  # nothing to go on from
            raise
    read_metadata(work, store)


def _records_file(settings: Settings, name: str) -> Path:
    path = settings.records / name
    if not _NAME.fullmatch(name) or not path.is_file():
        there = sorted(each.name for each in settings.records.glob("*") if each.is_file())[:10]
        raise ConfigError(
            f"records: must name a file in the workspace's folder records, got {name!r}, where there are: "
            f"{', '.join(there) or 'none'}. Put it there, or leave it empty to take the source's own metadata."
        )
    return path


def _log_run(settings: Settings, run_id: str, place: Path, summary: dict[str, Any]) -> None:
    params = {name: summary[name] for name in _PARAMS if summary.get(name) is not None}
    runs.log_params(settings, run_id, params)
    figures = {name: summary[name] for name in _METRICS if summary[name] is not None}
    figures |= {f"verdict/{name}": bins for name, bins in summary["verdicts"].items()}
    drift = summary["drift"] or {"facts": {}}
    figures |= {f"drift/{name}": fact["psi"] for name, fact in drift["facts"].items()}
    runs.log_metrics(settings, run_id, figures)
    runs.log_artifacts(settings, run_id, place, "reconcile")


def _sentence(summary: dict[str, Any]) -> str:
    said = (
        f"{summary['judged']:,} of {summary['bins']:,} records held against a photo: {summary['expected_wrong']:.1f} "
        f"expected to be wrong, {summary['verdicts']['mismatch']:,} called a mismatch"
    )
    if summary["to_count"] is not None:
        said += f"; the {summary['to_count']:,} to count hold {summary['expected_found']:.1f} of them"
    drift = summary["drift"]
    if drift is None:
        return f"{said}; drift is not known."
    return f"{said}; drift: {', '.join(drift['beyond']) or 'none'}."
