"""Compares inventory records with photos and lists the bins to count, the most probably wrong first."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bincount.config import ReconcileConfig
from bincount.dataset.contents_file import CONTENTS_COLUMNS
from bincount.dataset.inventory import RECORD_COLUMNS
from bincount.dataset.rejection import NO_PHOTO
from bincount.dataset.table_reader import TableReader
from bincount.errors import BincountError, ConfigError, DataError
from bincount.evaluate.batch_inference import digest_of_model
from bincount.evaluate.drift_baseline import DriftBaseline
from bincount.files import digest_of
from bincount.locks import exclusive_lock
from bincount.mismatch.calibration import Calibration
from bincount.mismatch.change import ChangeHead
from bincount.mismatch.contents import ContentsJudge
from bincount.mismatch.sums import SumsHead
from bincount.outcomes.confirmed import ConfirmedCounts
from bincount.outcomes.decay import decay_over_time
from bincount.outcomes.estimates import choose_parameters
from bincount.outcomes.outcome_store import OutcomeStore
from bincount.reconcile.records import check_ids, load_bucket, load_contents, load_table, read_metadata
from bincount.reconcile.report import make_folder, publish
from bincount.reconcile.scoring import check_drift, judge_contents, score_pairs, score_photos
from bincount.reconcile.state import COLUMNS, CONTENTS, PHOTO, PHOTOS, ReconcileState, open_state
from bincount.reconcile.worklist import WorklistContext, not_judged, worklist_figures, write_verdicts
from bincount.settings import Settings
from bincount.store.interface import Store
from bincount.store.open_store import open_store
from bincount.store.workspace import open_workspace
from bincount.tracking import model_registry, runs
from bincount.tracking.client import RECONCILE_EXPERIMENT

_log = logging.getLogger(__name__)

_VERSION_TAG = "bincount.model_version"
_PARAMS = (
    *("source", "records", "records_digest", "model_version", "manifest", "counts"),
    *("error_rate", "alpha", "capacity", "count_cost", "miss_cost", "blind"),
)
_METRICS = ("bins", "judged", "expected_wrong", "to_count", "expected_found", "expected_found_at_random")


def reconcile(
    settings: Settings, *, out: str | None = None, track: bool = False, attempt: str | None = None, **config: Any
) -> dict:
    """Compares inventory records with photos and lists the bins to count, the most probably wrong first.

    Every bin is listed, those without a usable photo or record with the
    reason. The same records, photos and model give the same files. A killed
    run resumes when it is started again. No record is changed.

    Args:
        settings: Workspace, buckets and tracking server.
        out: Folder for `worklist.csv`, `worklist.jsonl`, `summary.json` and
            `report.html`: "worklist" where None; not allowed with `track`.
        track: Whether the files become artifacts of an MLflow run. `records` is
            then the name of a file in the workspace's folder `records` and no
            path: an Airflow form must not read other files of this machine.
        attempt: With `track`, an id such as that of a DAG run: a retry
            resumes its MLflow run with the model version that it began with.
        **config: Fields of `ReconcileConfig`.

    Returns:
        The summary without its curve, and `out`, or with `track`
        `run_id`, `experiment_id` and, as `says`, the summary in a sentence.

    Raises:
        ConfigError: If a setting is wrong, or the model version has no calibration.
        DataError: If the records are invalid, or none of a file's can be compared with a photo.
        StoreError: If bucket or tracking server do not answer; scored photos are kept.
    """
    options = ReconcileConfig(**config)
    if track and out is not None:
        raise ConfigError(f"--out: must not be given with --track, which chooses the folder, got {out!r}.")
    if track:
        return _track(settings, options, attempt)
    folder = Path(out or "worklist").expanduser()
    files = [None if name is None else Path(name).expanduser() for name in _files_of(options)]
    summary = _write_worklist(settings, options, files, options.model, folder)
    return {**_without_curve(summary), "out": str(folder)}


def _track(settings: Settings, options: ReconcileConfig, attempt: str | None) -> dict:
    """Reconciles in `data/runs/<run_id>/reconcile` and logs the files to an MLflow run."""
    shared = open_workspace(settings)
    shared.pull_folder(settings.records)
    files = [
        None if name is None else settings.records_file(name, setting)
        for setting, name in zip(("records", "confirmed", "contents"), _files_of(options), strict=True)
    ]
    version = model_registry.version_named(settings, options.model)
    run_id = runs.open_run(settings, attempt=attempt, experiment=RECONCILE_EXPERIMENT)
    version = runs.run_tags(settings, run_id).get(_VERSION_TAG, version)
    runs.log_tags(settings, run_id, {_VERSION_TAG: version})
    runs.link_version(settings, run_id, version)
    _log.info("run %s of experiment %s, version %s", run_id, RECONCILE_EXPERIMENT, version)
    folder = settings.run(run_id) / "reconcile"
    with runs.marking_failed(settings, run_id):
        shared.pull_folder(folder)
        if not (folder / "summary.json").exists():
            _write_worklist(settings, options, files, f"models:/{model_registry.MODEL}/{version}", folder)
        shared.publish(folder, last="summary.json")
        summary = json.loads((folder / "summary.json").read_text())
        _log_run(settings, run_id, folder, summary)
    runs.finish_run(settings, run_id)
    sentence = _sentence(summary)
    _log.info("%s", sentence)
    experiment_id = runs.experiment_of(settings, run_id)
    return {**_without_curve(summary), "run_id": run_id, "experiment_id": experiment_id, "says": sentence}


def _files_of(options: ReconcileConfig) -> tuple[str | None, str | None, str | None]:
    return options.records, options.confirmed, options.contents


def _write_worklist(
    settings: Settings,
    options: ReconcileConfig,
    files: Sequence[Path | None],
    model: str,
    folder: Path,
) -> dict[str, Any]:
    """Scores the photos, compares the records and writes the files; returns the summary.

    `files` are those of the records, of the confirmed counts and of the contents, None where there is none.
    """
    records, confirmed_file, contents_file = files
    store = open_store(options.source, settings)
    table = None if records is None else TableReader(records, RECORD_COLUMNS)
    confirmed = None if confirmed_file is None else ConfirmedCounts(confirmed_file)
    contents = None if contents_file is None else TableReader(contents_file, CONTENTS_COLUMNS)
    version = model_registry.version_named(settings, model)
    with tempfile.TemporaryDirectory() as downloads:
        fetched = model_registry.fetch_model(settings, version, Path(downloads))
        calibration = Calibration.read(fetched)
        if calibration is None:
            raise ConfigError(
                f"model: version {version} must have a calibration, got none: it was registered before there were any. "
                "Run `bincount register` for its run again, or train a new model."
            )
        request = {
            "source": store.source,
            "records": table and table.digest,
            "confirmed": confirmed and confirmed.digest,
            "contents": contents and contents.digest,
            "model": digest_of_model(fetched),
            "columns": COLUMNS,  # an earlier release's file has other columns and cannot be resumed
        }
        with open_state(settings, digest_of(request)) as state:
            _load(state, store, table, confirmed, contents)
            make_folder(folder)  # a folder that cannot be written must fail before hours of scoring
            baseline = DriftBaseline.read(fetched)
            from bincount.learn.predictor import Predictor

            predictor, change = Predictor(fetched), ChangeHead.read(fetched)
            judge = ContentsJudge.read(fetched)
            score_photos(state, store, predictor, baseline, SumsHead.read(fetched))
            score_pairs(state, store, predictor, change, calibration.prior)
            judge_contents(state, judge, calibration.prior)
            calibrations = {PHOTO: calibration}
            calibrations |= {PHOTOS: change.calibration(calibration.counts)} if change else {}
            calibrations |= {CONTENTS: judge.calibration} if judge else {}
            context = WorklistContext(
                source=store.source,
                model_version=version,
                manifest=str(json.loads((fetched / "model.json").read_text())["manifest"]),
                counts=calibration.counts,
                alpha=options.alpha,
            )
            facts = _judge(settings, options, state, calibrations, context)
            if table is not None:
                _check_compared(state, store, table)
            summary = {
                "source": store.source,
                "records": table.name if table else None,
                "records_digest": table and table.digest,
                "model_version": version,
                "manifest": context.manifest,
                "counts": str(context.counts),
                "prior": calibration.prior.tolist(),
                **facts,
                "alpha": options.alpha,
                "capacity": options.capacity,
                "count_cost": options.count_cost,
                "miss_cost": options.miss_cost,
                "blind": options.blind,
                "pooled": calibration.pooled(alpha=options.alpha),
                "knows_unchanged": change is not None and change.knows_unchanged,
                "drift": check_drift(state, baseline, context.counts, settings.drift),
                **worklist_figures(state, capacity=options.capacity, count_cost=options.count_cost),
            }
            counted = confirmed.latest() if confirmed else []
            with exclusive_lock(settings.reconciles.with_suffix(".lock"), "publishing"):  # maybe into the same folder
                publish(state, store, predictor, context, summary, folder, confirmed=counted)
            if folder.is_relative_to(settings.workspace):
                open_workspace(settings).publish(folder, last="summary.json")
            state.remove()
    _log.info("%s: %d bins, %.1f records expected to be wrong", folder, summary["bins"], summary["expected_wrong"])
    return summary


def _load(
    state: ReconcileState,
    store: Store,
    table: TableReader | None,
    confirmed: ConfirmedCounts | None,
    contents: TableReader | None,
) -> None:
    if not state.is_loaded:
        try:
            load_bucket(state, store) if table is None else load_table(state, table, store, confirmed)
            if contents is not None:
                load_contents(state, contents)
            state.end_loading()
        except BincountError:
            state.remove()  # there is nothing to resume
            raise
    read_metadata(state, store)


def _judge(
    settings: Settings,
    options: ReconcileConfig,
    state: ReconcileState,
    calibrations: Mapping[str, Calibration],
    context: WorklistContext,
) -> dict:
    """Gives every bin its verdict; returns error rate and temperature, where they are from, and earlier outcomes."""
    stored = OutcomeStore(settings).read()
    parameters = choose_parameters(
        stored,
        source=context.source,
        version=context.model_version,
        manifest=context.manifest,
        error_rate=options.error_rate,
    )
    default_miss_cost = 0.0 if state.count("unit_value IS NOT NULL") else 1.0
    tags = model_registry.version_of(settings, context.model_version).tags
    write_verdicts(
        state,
        calibrations,
        error_rate=parameters.error_rate,
        alpha=options.alpha,
        temperature=parameters.temperature,
        miss_cost=default_miss_cost if options.miss_cost is None else options.miss_cost,
        is_source=tags.get("bincount.source") == context.source,
    )
    return parameters.facts | {"decay": decay_over_time(stored, source=context.source, limits=settings.decay)}


def _check_compared(state: ReconcileState, store: Store, table: TableReader) -> None:
    """Refuses a file in which bins without a photo have misspelled ids, or in which no record has a verdict."""
    try:
        check_ids(state, store, table, f"photo_problem = '{NO_PHOTO}'")
        if not state.count("probability IS NOT NULL"):
            reasons = ", ".join(f"{reason} ({bins})" for reason, bins in not_judged(state).items())
            raise DataError(
                f"{table.name}: must have at least one record that can be compared with a photo, got none: {reasons}."
            )
    except DataError:
        state.remove()  # the photos may exist next time
        raise


def _log_run(settings: Settings, run_id: str, folder: Path, summary: dict[str, Any]) -> None:
    params = {name: summary[name] for name in _PARAMS if summary.get(name) is not None}
    runs.log_params(settings, run_id, params)
    metrics = {name: summary[name] for name in _METRICS if summary[name] is not None}
    metrics |= {f"verdict/{name}": bins for name, bins in summary["verdicts"].items()}
    drift = summary["drift"] or {"facts": {}}
    metrics |= {f"drift/{name}": fact["psi"] for name, fact in drift["facts"].items()}
    runs.log_metrics(settings, run_id, metrics)
    runs.log_artifacts(settings, run_id, folder, "reconcile")


def _sentence(summary: dict[str, Any]) -> str:
    parts = [
        f"{summary['judged']:,} of {summary['bins']:,} records compared with a photo: {summary['expected_wrong']:.1f} "
        f"expected to be wrong, {summary['verdicts']['mismatch']:,} with the verdict mismatch"
    ]
    if summary["to_count"] is not None:
        parts.append(f"{summary['expected_found']:.1f} of them expected among the {summary['to_count']:,} to count")
    drift = summary["drift"]
    parts.append("drift unknown" if drift is None else f"drift: {', '.join(drift['beyond']) or 'none'}")
    return f"{'; '.join(parts)}."


def _without_curve(summary: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in summary.items() if name != "curve"}
