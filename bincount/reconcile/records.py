"""The records to hold against photos: from a file, or from the bucket's own metadata."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import closing

from bincount.dataset import reader
from bincount.dataset.candidates import list_candidates
from bincount.dataset.inventory import InventoryRow, columns_of, row_of
from bincount.dataset.reader import METADATA
from bincount.dataset.rejection import Rejection
from bincount.dataset.table_reader import Table
from bincount.progress import ProgressLog
from bincount.reconcile.state import ReconcileState
from bincount.store.interface import Store

_log = logging.getLogger(__name__)

_WORKERS = 64
_TOGETHER = 1024
_UNREAD = "metadata is unread"


def load_table(work: ReconcileState, table: Table) -> None:
    """Takes in the rows of a file.

    Raises:
        DataError: If the file is not what it should be, or names a bin twice.
    """
    places = columns_of(table.header, name=table.name)

    def rows() -> Iterator[InventoryRow]:
        for line, values in table.rows():
            named = {column: values[place] for column, place in places.items()}
            yield row_of(named, where=f"{table.name}, line {line}")

    work.load(rows())
    _log.info("%s: %s bins", table.name, f"{work.count('1'):,}")


def load_bucket(work: ReconcileState, store: Store) -> None:
    """Lists the bins of a source; what is recorded of them `read_metadata` finds.

    Raises:
        ConfigError: If the source holds no bin.
        StoreError: If it does not answer.
    """
    candidates = list_candidates(store)
    work.load(
        InventoryRow(bin_id, None, problem=_problem(candidates.halves.get(bin_id, ""))) for bin_id in candidates.ids
    )
    _log.info("%s: %s bins", store.source, f"{work.count('1'):,}")


def read_metadata(work: ReconcileState, store: Store) -> None:
    """Reads what is recorded of the bins of which it is not known yet.

    Raises:
        StoreError: If the source does not answer; what was read stays.
    """
    unread = work.count("problem = ?", _UNREAD)
    if not unread:
        return
    waiting: deque[tuple[int, str]] = deque()

    def keys() -> Iterator[str]:
        for page in work.pages("id", f"problem = '{_UNREAD}'"):
            waiting.extend(page)
            yield from (METADATA.key(bin_id) for _, bin_id in page)

    done: list[tuple[int | None, str, int]] = []
    with ProgressLog("metadata", unread) as progress, closing(store.fetch(keys(), workers=_WORKERS)) as answers:
        for answer in answers:
            place, bin_id = waiting.popleft()
            metadata = reader.read_metadata(bin_id, answer)
            progress.step(len(answer.data or b""), isinstance(metadata, Rejection))
            if isinstance(metadata, Rejection):
                done.append((None, metadata.reason, place))
            else:
                done.append((metadata.recorded, "", place))
            if len(done) == _TOGETHER:
                work.update(("recorded", "problem"), done)
                done = []
    work.update(("recorded", "problem"), done)


def _problem(half: str) -> str:
    return half if half.startswith("metadata") else _UNREAD
