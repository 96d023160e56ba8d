"""Imports physical counts of the bins on a worklist."""

from __future__ import annotations

import itertools
import json
import logging
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bincount.dataset.inventory import check_id_spelling
from bincount.dataset.table_reader import TableReader
from bincount.errors import ConfigError, DataError
from bincount.files import write_atomically
from bincount.outcomes.confirmed import FILE as CONFIRMED
from bincount.outcomes.confirmed import write_confirmed
from bincount.outcomes.count_yield import yield_figures
from bincount.outcomes.decay import decay_of, sentences_of
from bincount.outcomes.estimates import estimate_from_outcomes
from bincount.outcomes.outcome_store import (
    OUTCOME_COLUMNS,
    FileRow,
    JoinedOutcome,
    OutcomeStore,
    group_by_bin,
    latest_counts,
    outcome_rows,
)
from bincount.outcomes.worklist_reader import Worklist
from bincount.settings import Settings
from bincount.store.workspace import open_workspace

_log = logging.getLogger(__name__)

_MAX_ROWS = 1_000_000


def import_outcomes(
    settings: Settings,
    *,
    file: str,
    worklist: str | None = None,
    track: bool = False,
    count_cost: float | None = None,
    miss_cost: float | None = None,
) -> dict:
    """Joins physical counts to their worklist, stores them and reports what counting has found.

    All rows are imported or none. Importing a file again changes nothing, a killed
    import stores all rows or none, and concurrent imports wait for one another.
    No record is changed.

    Args:
        settings: Where outcomes are stored.
        file: CSV or parquet with the columns id, counted (one blind total per bin), when and, optionally, by.
        worklist: The folder that `reconcile` wrote, "worklist" where None; `outcomes.json` and `confirmed.csv`, for the
            next reconciliation, are written into it.
        track: Whether to log the figures to the MLflow run of a tracked reconciliation, as metrics and artifacts.
            `worklist` is then the id of that run, the last one where None, and `file` the name of a file in the
            workspace's folder `records`, not a path. `confirmed.csv` is written to that folder, too.
        count_cost: Cost of counting a bin, None for the one given to `reconcile`.
        miss_cost: Cost of a wrong record that is not found, None for the one given to `reconcile`.

    Returns:
        Content of `outcomes.json`: `outcomes` (rows read and stored), `counted` (precision, overs and shorts),
        `yield` and `cost` against other orders, the `error_rate` for the next
        run, `recalibration`, explanations of these figures (`says`), and `decay`, the figures of `decay.decay_of`.

    Raises:
        ConfigError: If a setting is wrong, or the workspace cannot be written.
        DataError: If a row is invalid; the message names it and the rule.
    """
    for flag, value in {"--count-cost": count_cost, "--miss-cost": miss_cost}.items():
        if value is not None and not 0 <= value < 1e12:
            raise ConfigError(f"{flag}: must be a number >= 0, got {value!r}. Use the same currency for both costs.")
    run_id, folder = _tracked(settings, worklist) if track else ("", Path(worklist or "worklist").expanduser())
    if track:
        open_workspace(settings).pull_folder(settings.records)
    path = settings.records_file(file, "file") if track else Path(file).expanduser()
    table = TableReader(path, OUTCOME_COLUMNS)
    listed = Worklist(folder)
    counts = group_by_bin(itertools.islice(outcome_rows(table, now=datetime.now(UTC)), _MAX_ROWS + 1))
    if sum(map(len, counts.values())) > _MAX_ROWS:
        raise DataError(f"{table.name}: must have at most {_MAX_ROWS:,} counts, got more. Split the file.")
    rows = _join(counts, listed, table)
    origin, store = listed.origin, OutcomeStore(settings)
    with store.locked():
        new = store.add(origin, rows)
        stored = store.read()
        estimates = estimate_from_outcomes(
            stored, source=origin.source, version=origin.model_version, manifest=origin.manifest
        )
        given = {"count_cost": count_cost, "miss_cost": miss_cost}
        costs = {name: listed.summary[name] if value is None else value for name, value in given.items()}
        answer = {
            "worklist": origin.worklist,
            "source": origin.source,
            "model_version": origin.model_version,
            "outcomes": {"read": len(rows), "new": new, "kept": len(stored.get(origin, []))},
            **yield_figures(listed, stored.get(origin, []), estimates, **costs),
            "decay": decay_of(origin, stored.get(origin, []), settings.decay),
        }
        confirmed, _ = latest_counts(row.outcome for row in stored.get(origin, []))
        write_confirmed(folder, confirmed, listed.places({outcome.id for outcome in confirmed}))
        write_atomically(folder / "outcomes.json", [json.dumps(answer, indent=1, ensure_ascii=False).encode()])
    _log.info("%s: %d counts, %d of them new, %d blank rows skipped", table.name, len(rows), new, table.blank_rows)
    _log_decay(answer["decay"])
    if track:
        _log_to_run(settings, run_id, folder, answer)
        return {"run_id": run_id, **answer}
    return answer


def _tracked(settings: Settings, run_id: str | None) -> tuple[str, Path]:
    """The MLflow run of a tracked reconciliation, and its worklist's folder."""
    if run_id is not None and not re.fullmatch(r"[0-9a-f]{32}", run_id):
        raise ConfigError(f"worklist: must be the MLflow run of a reconciliation, got {run_id[:40]!r}.")
    place = settings.run(run_id) if run_id else settings.runs
    open_workspace(settings).pull_folder(place, "*/reconcile/*")
    found = list(settings.runs.glob(f"{run_id or '*'}/reconcile/summary.json"))
    if not found:
        raise ConfigError(
            f"worklist: must be a reconciliation that was tracked in this workspace, got {run_id or 'none at all'}. "
            "Run `bincount reconcile --track`, or the DAG reconcile_inventory, first."
        )
    newest = max(found, key=lambda path: path.stat().st_mtime)
    return newest.parents[1].name, newest.parent


def _log_to_run(settings: Settings, run_id: str, folder: Path, answer: dict) -> None:
    from bincount.tracking import runs

    settings.records.mkdir(parents=True, exist_ok=True)
    write_atomically(settings.records / CONFIRMED, [(folder / CONFIRMED).read_bytes()])
    open_workspace(settings).push(settings.records / CONFIRMED, folder)
    counted = {name: value for name, value in answer["counted"].items() if isinstance(value, int | float)}
    metrics = {f"outcomes/{name}": value for name, value in counted.items()}
    for name, fact in (answer["decay"] or {"facts": {}})["facts"].items():
        metrics |= {f"decay/{name}": fact["value"], f"decay/{name}_expected": fact["expected"]}
        metrics[f"decay/{name}_p_value"] = fact["p_value"]
    runs.log_metrics(settings, run_id, metrics)
    runs.log_artifacts(settings, run_id, folder, "reconcile")


def _log_decay(decay: dict | None) -> None:
    if decay is None:
        _log.info("decay: unknown, none of the counted bins has a probability that can be compared")
        return
    says = dict(zip(decay["facts"], sentences_of(decay), strict=True))
    for name in decay["beyond"]:
        _log.warning("decay: %s", says[name])
    if not decay["beyond"]:
        _log.info("decay: none in %d counted bins", decay["bins"])


def _join(counts: dict[str, list[FileRow]], listed: Worklist, table: TableReader) -> Sequence[JoinedOutcome]:
    unmatched, rows, ids = dict(counts), [], set()
    for page in listed.pages():
        for row in page:
            ids.add(row.id)
            rows += [JoinedOutcome(row, each.outcome) for each in unmatched.pop(row.id, [])]
    check_id_spelling(table, counts, ids, zeros=any(len(each) > 1 and each.startswith("0") for each in counts))
    if unmatched:
        first = next(iter(unmatched.values()))[0]
        raise DataError(
            f"{first.where}: id must be on the worklist, got {first.outcome.id!r} ({len(unmatched)} such bins in all). "
            "Name the right --worklist; spreadsheets drop leading zeros unless the column is text."
        )
    if not rows:
        raise DataError(
            f"{table.name}: must have at least one count, got none. Write id,counted,when,by and the counts."
        )
    return rows
