"""Takes back what counting found."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bincount.dataset.inventory import columns_of
from bincount.dataset.table_reader import Table
from bincount.errors import ConfigError, DataError
from bincount.files import write_atomically
from bincount.outcomes.count_yield import figures_of
from bincount.outcomes.estimates import estimates_from
from bincount.outcomes.outcome_store import NAMES, NEEDED, Outcome, OutcomeStore, StoredOutcomes, gather, outcome_of
from bincount.outcomes.worklist_reader import Worklist
from bincount.settings import Settings

_log = logging.getLogger(__name__)

_MOST_ROWS = 1_000_000


def import_outcomes(
    settings: Settings,
    *,
    file: str,
    worklist: str = "worklist",
    count_cost: float | None = None,
    miss_cost: float | None = None,
) -> dict:
    """Joins physical counts to the worklist they were made for, keeps them and says what they are worth.

    All rows are taken or none. The same file again changes nothing, an import
    that is killed leaves nothing or all of it, and several at once wait for one another.
    Nothing changes any record.

    Args:
        settings: Where outcomes are kept.
        file: CSV or parquet with the columns id, counted (one blind total a bin), when and, as you like, by.
        worklist: The folder that `reconcile` wrote; `outcomes.json` is written into it.
        count_cost: What it costs to count a bin, None for what `reconcile` was told.
        miss_cost: What a wrong record that is not found costs, None for what `reconcile` was told.

    Returns:
        What stands in `outcomes.json`: `outcomes` (rows read and kept), `counted` (precision, overs and shorts),
        `yield` and `cost` against other orders, the `error_rate` for the next
        run, `recalibration`, and in words what these figures rest on (`says`).

    Raises:
        ConfigError: If a setting is wrong, or the workspace cannot be written.
        DataError: If a row is not what it should be; the message names it and the rule.
    """
    for flag, value in {"--count-cost": count_cost, "--miss-cost": miss_cost}.items():
        if value is not None and not 0 <= value < 1e12:
            raise ConfigError(f"{flag}: must be a number >= 0, got {value!r}. Any currency does, the same for both.")
    table, folder = Table(Path(file).expanduser()), Path(worklist).expanduser()
    listed = Worklist(folder)
    places = columns_of(table.header, name=table.name, names=NAMES, needed=NEEDED)
    counts = gather(_rows(table, places))
    rows = _joined(counts, listed, table)
    origin, store = listed.origin, OutcomeStore(settings.outcomes)
    with store.alone():
        new = store.add(origin, rows)
        kept = store.read()
        learned = estimates_from(kept, source=origin.source, version=origin.model_version, manifest=origin.manifest)
        said = {"count_cost": count_cost, "miss_cost": miss_cost}
        costs = {name: listed.summary[name] if value is None else value for name, value in said.items()}
        answer = {
            "worklist": origin.worklist,
            "source": origin.source,
            "model_version": origin.model_version,
            "outcomes": {"read": len(rows), "new": new, "kept": len(kept.get(origin, []))},
            **figures_of(listed, kept.get(origin, []), learned, **costs),
        }
        write_atomically(folder / "outcomes.json", [json.dumps(answer, indent=1, ensure_ascii=False).encode()])
    _log.info("%s: %d counts, %d of them new", table.name, len(rows), new)
    return answer


def _rows(table: Table, places: dict[str, int]) -> Iterator[tuple[str, Outcome]]:
    now = datetime.now(UTC)
    for number, (line, values) in enumerate(table.rows()):
        if number == _MOST_ROWS:
            raise DataError(f"{table.name}: must hold at most {_MOST_ROWS:,} counts, got more. Split the file.")
        where = f"{table.name}, line {line}"
        yield where, outcome_of({name: values[place] for name, place in places.items()}, where=where, now=now)


def _joined(counts: dict[str, list[tuple[str, Outcome]]], listed: Worklist, table: Table) -> Sequence[StoredOutcomes]:
    left, rows = dict(counts), []
    for page in listed.pages():
        for row in page:
            rows += [StoredOutcomes(row, outcome) for _, outcome in left.pop(row.id, [])]
    if left:
        where, outcome = next(iter(left.values()))[0]
        raise DataError(
            f"{where}: id must stand on the worklist, got {outcome.id!r} ({len(left)} such bins in all). "
            "Name the right --worklist; spreadsheets drop leading zeros unless the column is text."
        )
    if not rows:
        raise DataError(
            f"{table.name}: must hold at least one count, got none. Write id,counted,when,by and the counts."
        )
    return rows
