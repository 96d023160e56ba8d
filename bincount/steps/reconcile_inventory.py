"""Reconciles, and keeps what was found in an MLflow run of its own."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

from bincount.core.conformal import ALPHA
from bincount.core.errors import ConfigError
from bincount.edge import registry, runs, tracking
from bincount.edge.mlflow_door import RECONCILIATIONS
from bincount.edge.settings import Settings
from bincount.steps.reconcile import reconcile

_log = logging.getLogger(__name__)

_VERSION = "bincount.model_version"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PARAMS = (
    *("source", "records", "records_digest", "model_version", "manifest", "counts"),
    *("error_rate", "alpha", "capacity", "count_cost", "miss_cost", "blind"),
)
_METRICS = ("bins", "judged", "expected_wrong", "to_count", "expected_found", "expected_found_at_random")


def reconcile_inventory(
    settings: Settings,
    *,
    source: str,
    records: str | None = None,
    model: str = f"models:/{registry.MODEL}@{registry.CHAMPION}",
    capacity: int | None = None,
    count_cost: float | None = None,
    miss_cost: float | None = None,
    error_rate: float | None = None,
    alpha: float = ALPHA,
    blind: bool = False,
    attempt: str | None = None,
) -> dict:
    """Reconciles as `reconcile` does; worklist, report and summary become artifacts of an MLflow run.

    Its files are made in `data/runs/<run_id>/reconcile` first. A retry of the
    attempt finds its run again, goes on with the version that it began with,
    and makes nothing twice. Nothing changes any record.

    Args:
        settings: Names workspace, buckets and tracking server.
        source: "s3://BUCKET" or a folder in the bucket's layout.
        records: Name of a file in the workspace's folder `records`; None takes
            the source's own metadata. It is a name and no path, as whoever fills
            in a form has no business in the rest of this machine.
        model: "models:/bincount@ALIAS" or "models:/bincount/VERSION".
        capacity: How many bins can be counted.
        count_cost: What it costs to count a bin; with `miss_cost`.
        miss_cost: What a wrong record that is not found costs.
        error_rate: Share of records that are wrong; None for what `reconcile` assumes.
        alpha: Share of right records that may be called a mismatch.
        blind: Whether the report is for the person who counts.
        attempt: What is being attempted, such as the id of a DAG run.

    Returns:
        The summary, `run_id`, and `says`, the summary in a sentence.

    Raises:
        BincountError: What `reconcile` raises; the run is marked as failed.
        ConfigError: If there is no such file, or no such version: no run is opened then.
    """
    file = None if records is None else str(_file(settings, records))
    version = registry.version_named(settings, model)
    run_id = runs.open_run(settings, attempt=attempt, experiment=RECONCILIATIONS)
    version = tracking.run_tags(settings, run_id).get(_VERSION, version)
    tracking.log_tags(settings, run_id, {_VERSION: version})
    _log.info("run %s of experiment %s, version %s", run_id, RECONCILIATIONS, version)
    place = settings.run(run_id) / "reconcile"
    with runs.marking_failed(settings, run_id):
        if not (place / "summary.json").exists():
            reconcile(
                settings,
                source=source,
                out=str(place),
                records=file,
                model=f"models:/{registry.MODEL}/{version}",
                capacity=capacity,
                count_cost=count_cost,
                miss_cost=miss_cost,
                alpha=alpha,
                error_rate=error_rate,
                blind=blind,
            )
        summary = json.loads((place / "summary.json").read_text())
        _log_run(settings, run_id, place, summary)
    runs.finish_run(settings, run_id)
    says = _sentence(summary)
    _log.info("%s", says)
    return {**{name: value for name, value in summary.items() if name != "curve"}, "run_id": run_id, "says": says}


def _file(settings: Settings, name: str) -> Path:
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
    tracking.log_params(settings, run_id, params)
    figures = {name: summary[name] for name in _METRICS if summary[name] is not None}
    figures |= {f"verdict/{name}": bins for name, bins in summary["verdicts"].items()}
    drift = summary["drift"] or {"facts": {}}
    figures |= {f"drift/{name}": fact["psi"] for name, fact in drift["facts"].items()}
    tracking.log_metrics(settings, run_id, figures)
    tracking.log_artifacts(settings, run_id, place, "reconcile")


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
