"""Loads the records to compare with photos: from a file, or from the source's own metadata."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from contextlib import closing

from bincount.dataset.bin_reader import metadata_of
from bincount.dataset.candidates import list_candidates
from bincount.dataset.contents import contents_of, encode_contents
from bincount.dataset.contents_file import ContentsRow, contents_rows
from bincount.dataset.ids import counterpart_of
from bincount.dataset.inventory import InventoryRow, check_id_spelling, inventory_rows
from bincount.dataset.keys import metadata_key, photo_key
from bincount.dataset.rejection import Rejection
from bincount.dataset.table_reader import TableReader
from bincount.errors import DataError
from bincount.outcomes.confirmed import ConfirmedCounts
from bincount.progress import ProgressLog
from bincount.reconcile.state import ReconcileState
from bincount.store.interface import Store

_log = logging.getLogger(__name__)

_WORKERS = 64
_UPDATE_ROWS = 1024
_MAX_IDS_CHECKED = 100
_UNREAD = "metadata is unread"


def load_table(work: ReconcileState, table: TableReader, store: Store, confirmed: ConfirmedCounts | None) -> None:
    """Loads the records of a file, with the confirmed counts that belong to them.

    Raises:
        DataError: If the file is invalid, lists a bin twice, has no usable record, or lost its ids' leading zeros.
    """
    if len({"before", "counted_before"} & set(table.positions)) == 1 and not (
        confirmed and "before" in table.positions
    ):
        raise DataError(
            f"{table.name}: must have both columns before and counted_before, or neither, got one. "
            "Add the other, or name confirmed counts with --confirmed."
        )
    work.load(confirmed.join(inventory_rows(table)) if confirmed else inventory_rows(table))
    rows = work.count("1")
    if confirmed:
        _log.info("%s: %s of %s records have an earlier photo with a confirmed count", table.name, confirmed.used, rows)
    if table.blank_rows:
        _log.warning("%s: %d blank rows skipped", table.name, table.blank_rows)
    if not work.count("problem = ''"):
        problems = work.tally("problem")
        got = f"{rows} rows, the first problem: {next(iter(problems))!r}" if problems else "no rows"
        raise DataError(f"{table.name}: must have at least one usable record, got {got}.")
    check_ids(work, store, table)
    _log.info("%s: %s bins", table.name, f"{rows:,}")


def check_ids(state: ReconcileState, store: Store, table: TableReader, where: str = "has_photo") -> None:
    """Compares the spelling of a file's ids with the source's, for at most 100 of them.

    Args:
        state: The bins.
        store: Where their photos are.
        table: The file.
        where: Condition on the bins, in SQL.

    Raises:
        DataError: If ids lost their leading zeros: `inventory.check_id_spelling`.
        StoreError: If the source does not answer.
    """
    step = -(-state.count(where) // _MAX_IDS_CHECKED) or 1
    every = (bin_id for page in state.pages("id", where) for _, bin_id in page)
    ids = list(itertools.islice(every, 0, None, step))
    spellings = [*ids, *filter(None, map(counterpart_of, ids))]
    keys = map(photo_key, spellings)
    with closing(store.fetch(keys, workers=_WORKERS)) as answers:
        existing = {bin_id for bin_id, answer in zip(spellings, answers, strict=True) if answer.data is not None}
    zeros = state.count("has_photo AND id LIKE '0_%'") > 0
    check_id_spelling(table, ids, existing, zeros=zeros)


def load_contents(work: ReconcileState, table: TableReader) -> None:
    """Adds the products of a file to the records.

    Raises:
        DataError: If the file is damaged, or no record's products can be used.
    """
    problems: list[str] = []
    nameless: list[int] = []

    def rows() -> Iterator[ContentsRow]:
        for row in contents_rows(table):
            if not row.bin_id:
                nameless.append(row.line)
                continue
            each = (row.product.size_problem, row.product.weight_problem) if row.product else (row.problem,)
            problems.extend(filter(None, each))
            yield row

    bins = work.load_contents(rows())
    if nameless:
        _log.warning(
            "%s: rows set aside, without a bin's id: %d, such as line %d", table.name, len(nameless), nameless[0]
        )
    if problems:
        _log.warning("%s: values set aside: %d, such as %s", table.name, len(problems), problems[0])
    if not bins:
        reason = next(iter(work.tally("contents_problem")), "")
        got = f"none that can be used: {reason}. Fix the row" if reason else "none of them. Compare the ids"
        raise DataError(f"{table.name}: must list products of the records' bins, got {got}.")
    _log.info("%s: products of %s bins", table.name, f"{bins:,}")


def load_bucket(work: ReconcileState, store: Store) -> None:
    """Lists the bins of a source; `read_metadata` then reads their records.

    Raises:
        ConfigError: If the source holds no bin.
        StoreError: If it does not answer.
    """
    candidates = list_candidates(store)
    work.load(
        InventoryRow(bin_id, None, problem=_problem(candidates.incomplete.get(bin_id, ""))) for bin_id in candidates.ids
    )
    _log.info("%s: %s bins", store.source, f"{work.count('1'):,}")


def read_metadata(work: ReconcileState, store: Store) -> None:
    """Reads the metadata that is not read yet.

    Raises:
        StoreError: If the source does not answer; what was read stays.
    """
    unread = work.count("problem = ?", _UNREAD)
    if not unread:
        return
    done: list[tuple[int | None, str, str | None, int]] = []
    rows = work.fetch(store, "id", f"problem = '{_UNREAD}'", metadata_key, workers=_WORKERS)
    with ProgressLog("metadata", unread) as progress, closing(rows):
        for (position, bin_id), answer in rows:
            metadata = metadata_of(bin_id, answer)
            progress.step(len(answer.data or b""), isinstance(metadata, Rejection))
            if isinstance(metadata, Rejection) or answer.data is None:
                done.append((None, metadata.reason if isinstance(metadata, Rejection) else "", None, position))
            else:
                products = encode_contents(contents_of(answer.data))
                done.append((metadata.recorded, "", products, position))
            if len(done) == _UPDATE_ROWS:
                work.update(("recorded", "problem", "contents"), done)
                done = []
    work.update(("recorded", "problem", "contents"), done)


def _problem(half: str) -> str:
    return half if half.startswith("metadata") else _UNREAD
