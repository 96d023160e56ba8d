"""Imports physical counts of the bins on a worklist."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bincount.dataset.inventory import check_id_spelling
from bincount.dataset.table_reader import TableReader
from bincount.errors import ConfigError, DataError
from bincount.files import write_atomically
from bincount.outcomes.confirmed import write_confirmed
from bincount.outcomes.count_yield import yield_figures
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

_log = logging.getLogger(__name__)

_MAX_ROWS = 1_000_000


def import_outcomes(
    settings: Settings,
    *,
    file: str,
    worklist: str = "worklist",
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
        worklist: The folder that `reconcile` wrote; `outcomes.json` and `confirmed.csv`, for the next reconciliation,
            are written into it.
        count_cost: Cost of counting a bin, None for the one given to `reconcile`.
        miss_cost: Cost of a wrong record that is not found, None for the one given to `reconcile`.

    Returns:
        Content of `outcomes.json`: `outcomes` (rows read and stored), `counted` (precision, overs and shorts),
        `yield` and `cost` against other orders, the `error_rate` for the next
        run, `recalibration`, and explanations of these figures (`says`).

    Raises:
        ConfigError: If a setting is wrong, or the workspace cannot be written.
        DataError: If a row is invalid; the message names it and the rule.
    """
    for flag, value in {"--count-cost": count_cost, "--miss-cost": miss_cost}.items():
        if value is not None and not 0 <= value < 1e12:
            raise ConfigError(f"{flag}: must be a number >= 0, got {value!r}. Use the same currency for both costs.")
    table, folder = TableReader(Path(file).expanduser(), OUTCOME_COLUMNS), Path(worklist).expanduser()
    listed = Worklist(folder)
    counts = group_by_bin(itertools.islice(outcome_rows(table, now=datetime.now(UTC)), _MAX_ROWS + 1))
    if sum(map(len, counts.values())) > _MAX_ROWS:
        raise DataError(f"{table.name}: must have at most {_MAX_ROWS:,} counts, got more. Split the file.")
    rows = _join(counts, listed, table)
    origin, store = listed.origin, OutcomeStore(settings.outcomes)
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
        }
        confirmed, _ = latest_counts(row.outcome for row in stored.get(origin, []))
        write_confirmed(folder, confirmed, listed.places({outcome.id for outcome in confirmed}))
        write_atomically(folder / "outcomes.json", [json.dumps(answer, indent=1, ensure_ascii=False).encode()])
    _log.info("%s: %d counts, %d of them new, %d blank rows skipped", table.name, len(rows), new, table.blank_rows)
    return answer


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
