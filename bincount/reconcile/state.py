"""The bins of one reconciliation in a SQLite file: any number fits in memory, and a killed run resumes."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sqlite3
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter, itemgetter
from pathlib import Path
from types import TracebackType

from bincount.dataset.contents import Product, decode_contents, encode_contents
from bincount.dataset.contents_file import ContentsRow, joined
from bincount.dataset.inventory import InventoryRow
from bincount.errors import ConfigError, DataError, StoreError
from bincount.files import write_atomically
from bincount.settings import Settings
from bincount.store.interface import FetchedObject, Store
from bincount.store.workspace import FolderWorkspace, Workspace, open_workspace

_log = logging.getLogger(__name__)

PHOTO, PHOTOS, CONTENTS = "photo", "photos", "contents"
"""Kinds of evidence: the photo alone, an earlier one too, and the products on the record."""

_PAGE = 2048
COLUMNS = f"""
    position INTEGER PRIMARY KEY, id TEXT, has_photo INTEGER, recorded INTEGER, location TEXT, unit_value REAL,
    problem TEXT, photo_problem TEXT, probabilities BLOB, statistics BLOB,
    before TEXT, counted_before INTEGER, counted_on TEXT, before_problem TEXT, features BLOB, joint BLOB,
    evidence TEXT DEFAULT '{PHOTO}',
    contents TEXT, contents_problem TEXT DEFAULT '', sums BLOB, missed REAL, litres TEXT,
    verdict TEXT, probability REAL, direction TEXT, size REAL, low INTEGER, high INTEGER, cost REAL, learned INTEGER
"""
"""Columns of a bin. Those whose names do not say all:

- `position`: row number in the file, from 1.
- `problem`: why the record cannot be used, "" if it can.
- `photo_problem`: why the photo cannot be used, "" if it can, NULL if it was not scored.
- `before_problem`: why the earlier photo cannot be used, "" if it can or none is named.
- `contents_problem`: why the products, or a weight among them, cannot be used, "" if they can or none are listed.
- `probabilities`: C float64, the distribution over counts from the photo alone.
- `statistics`: float64, one of each of `scoring.PHOTO_STATISTICS`.
- `features`: float32, of a photo with an earlier one, until the two are compared.
- `evidence`: what the verdict is based on, such as "photos and contents" (`PHOTO`, `PHOTOS`, `CONTENTS`).
- `joint`: C float64, the distribution over counts from all `evidence`, NULL where that is the photo alone.
- `contents`: the products on the record (`contents.encode_contents`).
- `sums`: float64, the sums of these products as predicted from the photo (`mismatch.sums`).
- `missed`: Bayes factor of a missed transaction (`ContentsJudge.missed_evidence`).
- `litres`: a clause of the reason that compares the products' volume on the record and in the photo.
- `verdict` and all after it: written by `worklist.write_verdicts`.
"""


_LOADED = (
    *("id", "has_photo", "recorded", "location", "unit_value", "problem"),
    *("before", "counted_before", "counted_on", "before_problem"),
)


@contextlib.contextmanager
def open_state(settings: Settings, request: str) -> Iterator[ReconcileState]:
    """The bins of a request, with what earlier attempts at it have done.

    These are attempts on this machine and, if the workspace is in a bucket, on other machines.

    Args:
        settings: Names the workspace.
        request: Digest of the request.

    Raises:
        ConfigError: If another process works on the same request. In a bucket this one waits until it has ended.
        StoreError: If file or bucket cannot be read and written.
    """
    path, shared = settings.reconciles / f"{request}.db", open_workspace(settings)
    lock = shared.lock(path.with_suffix(".lock"), "reconcile") if settings.remote else contextlib.nullcontext()
    with lock:
        if settings.remote:
            _restore(path, shared)
        with ReconcileState(path, shared) as state:
            yield state


def _restore(path: Path, shared: Workspace) -> None:
    """Takes another machine's snapshot where it is newer than this machine's."""
    snapshot, beside = snapshot_of(path), path.with_suffix(".beside")
    shared.pull(snapshot)
    if snapshot.exists() and not (path.exists() and _is_of(path, snapshot)):
        _unlink(path)
        shutil.copyfile(snapshot, beside)
        beside.replace(path)
        _mark(path, snapshot)
        _log.info("reconcile: continuing from another worker's snapshot")


def _is_of(path: Path, snapshot: Path) -> bool:
    """True if a state's file began as a snapshot, or the snapshot was taken of it."""
    mark = path.with_suffix(".mark")
    return mark.exists() and mark.read_text() == str(snapshot.stat().st_mtime_ns)


def _mark(path: Path, snapshot: Path) -> None:
    write_atomically(path.with_suffix(".mark"), [str(snapshot.stat().st_mtime_ns).encode()])


def snapshot_of(path: Path) -> Path:
    """The copy of a state's file that is shared in a bucket."""
    return path.with_suffix(".snapshot")


def _unlink(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


class ReconcileState:
    """The bins of one request; committed rows survive the process."""

    def __init__(self, path: Path, shared: Workspace | None = None) -> None:
        """Opens the file for this process alone; committed rows are checkpointed to the workspace.

        Raises:
            ConfigError: If another process works on the same request.
            StoreError: If the file cannot be opened.
        """
        self.path = path
        self._shared = shared or FolderWorkspace()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = _open_database(path)
        except (sqlite3.Error, OSError) as error:
            if "locked" in str(error):
                raise ConfigError(
                    f"reconcile: only one process may work on a request, got another one on {path}. Wait for it."
                ) from None
            raise StoreError(
                f"{path}: must be readable and writable, got {error}. Free disk space, or delete it, and run again."
            ) from error

    def __enter__(self) -> ReconcileState:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._db.close()
        if isinstance(error, sqlite3.Error):
            raise StoreError(f"{self.path}: must be writable, got {error}. Free disk space and run again.") from error

    def remove(self) -> None:
        """Deletes the file."""
        self._db.close()
        snapshot = snapshot_of(self.path)
        self._shared.delete(snapshot)
        snapshot.unlink(missing_ok=True)
        self.path.with_suffix(".mark").unlink(missing_ok=True)
        _unlink(self.path)

    @property
    def is_loaded(self) -> bool:
        """True if `end_loading` was called: all that the files say of the bins is here."""
        return bool(self._db.execute("PRAGMA user_version").fetchone()[0])

    def end_loading(self) -> None:
        """Says that all rows are loaded, with their products."""
        self._db.execute("PRAGMA user_version = 1")

    def load(self, rows: Iterable[InventoryRow]) -> None:
        """Inserts the rows, all or none.

        Raises:
            DataError: If two rows have the same id: which of the two records is right cannot be decided here.
        """
        self._db.execute("BEGIN")
        try:
            self._db.execute("DELETE FROM bins")
            self._db.executemany(
                f"INSERT INTO bins ({', '.join(_LOADED)}) VALUES ({', '.join('?' * len(_LOADED))})",  # noqa: S608 ours
                map(attrgetter(*_LOADED), rows),
            )
            self._db.execute("CREATE INDEX IF NOT EXISTS by_id ON bins (id) WHERE has_photo")
            twice = self._db.execute(
                "SELECT id, COUNT(*), MIN(position), MAX(position) FROM bins WHERE has_photo GROUP BY id "
                "HAVING COUNT(*) > 1 ORDER BY MIN(position) LIMIT 1"
            ).fetchone()
            if twice:
                raise DataError(
                    f"records: each bin must occur once, got {twice[0]!r} {twice[1]} times, "
                    f"in rows {twice[2]} and {twice[3]}. Sum the rows of one bin, or remove the wrong ones."
                )
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise

    def count(self, where: str, *values: object) -> int:
        """Number of rows that fulfil a condition."""
        return int(self._db.execute(f"SELECT COUNT(*) FROM bins WHERE {where}", values).fetchone()[0])  # noqa: S608 ours

    def tally(self, column: str) -> dict[str, int]:
        """Number of rows by text of a column, the most frequent first; "" and NULL are left out."""
        tally = self._db.execute(
            f"SELECT {column}, COUNT(*) FROM bins WHERE {column} <> '' GROUP BY 1 ORDER BY 2 DESC, 1"  # noqa: S608 ours
        )
        return dict(tally.fetchall())

    def pages(self, columns: str, where: str) -> Iterator[list[tuple]]:
        """Rows in file order, page by page so that they may be updated meanwhile; `position` comes first."""
        last = 0
        while page := self._db.execute(
            f"SELECT position, {columns} FROM bins WHERE position > ? AND ({where}) ORDER BY position LIMIT ?",  # noqa: S608 ours
            (last, _PAGE),
        ).fetchall():
            yield page
            last = page[-1][0]

    def fetch(
        self, store: Store, columns: str, where: str, key_of: Callable[[str], str], *, workers: int
    ) -> Generator[tuple[tuple, FetchedObject], None, None]:
        """Rows of `pages`, each with the object whose key `key_of` makes of the first of the columns, an id.

        Raises:
            StoreError: If the store does not answer.
        """
        waiting: deque[tuple] = deque()

        def keys() -> Iterator[str]:
            for page in self.pages(columns, where):
                waiting.extend(page)
                yield from (key_of(row[1]) for row in page)

        with contextlib.closing(store.fetch(keys(), workers=workers)) as answers:
            for answer in answers:
                yield waiting.popleft(), answer

    def update(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Updates columns and commits; each row is its new values, then its position."""
        self._db.execute("BEGIN")
        assignments = ", ".join(f"{column} = ?" for column in columns)
        self._db.executemany(f"UPDATE bins SET {assignments} WHERE position = ?", rows)  # noqa: S608 ours
        self._db.execute("COMMIT")
        self._shared.checkpoint(snapshot_of(self.path), self._write_snapshot)

    def _write_snapshot(self) -> None:
        snapshot = snapshot_of(self.path)
        beside = snapshot.with_suffix(".beside")
        beside.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(beside)) as copy:
            self._db.backup(copy)
        beside.replace(snapshot)
        _mark(self.path, snapshot)

    def load_contents(self, rows: Iterable[ContentsRow]) -> int:
        """Adds the products of a file to their bins, and returns how many bins then have products.

        A bin with a quantity that is not valid gets the reason instead.

        Args:
            rows: Those that name a bin.
        """
        self._db.execute("CREATE TEMP TABLE products (id TEXT, line INTEGER, name TEXT, product TEXT, problem TEXT)")
        self._db.executemany(
            "INSERT INTO products VALUES (?, ?, ?, ?, ?)",
            (
                (row.bin_id, row.line, row.name, encode_contents([row.product] if row.product else []), row.problem)
                for row in rows
            ),
        )
        listed = self._db.execute(
            "SELECT * FROM products WHERE id IN (SELECT id FROM bins WHERE has_photo) ORDER BY id, line"
        )
        self._db.execute("BEGIN")
        self._db.executemany(
            "UPDATE bins SET contents = ?, contents_problem = ? WHERE has_photo AND id = ?",
            ((*_contents_of(own), bin_id) for bin_id, own in groupby(listed, itemgetter(0))),
        )
        self._db.execute("COMMIT")
        self._db.execute("DROP TABLE products")
        return self.count("contents IS NOT NULL")

    def exclude_before(self, where: str, reason: str) -> None:
        """Sets the reason why the earlier photo is not used, of the rows that name one and fulfil a condition."""
        self._db.execute(f"UPDATE bins SET before_problem = ? WHERE before <> '' AND {where}", (reason,))  # noqa: S608 ours

    def exclude_contents(self, where: str, reason: str) -> None:
        """Sets the reason why the products are not used, of the rows that fulfil a condition."""
        self._db.execute(f"UPDATE bins SET contents_problem = ? WHERE {where}", (reason,))  # noqa: S608 ours

    def cycles(self) -> list[int]:
        """Positions of the rows whose earlier photos, followed from bin to bin, lead back to themselves."""
        rows = self._db.execute("SELECT id, before, position FROM bins WHERE before <> '' AND before_problem = ''")
        links = {bin_id: (before, position) for bin_id, before, position in rows}
        done: set[str] = set()
        found: list[int] = []
        for start in links:
            path: dict[str, None] = {}
            at = start
            while at in links and at not in done and at not in path:
                path[at] = None
                at = links[at][0]
            if at in path:
                names = list(path)
                found += [links[name][1] for name in names[names.index(at) :]]
            done.update(path)
        return found

    def ranked(self, columns: str, *, limit: int = -1) -> Iterator[tuple]:
        """Rows by falling expected cost; those without a verdict come last."""
        yield from self._db.execute(
            f"SELECT {columns} FROM bins ORDER BY cost IS NULL, cost DESC, position LIMIT ?",  # noqa: S608 ours
            (limit,),
        )


def _contents_of(rows: Iterable[tuple[str, int, str, str, str]]) -> tuple[str | None, str]:
    """The products in the rows of one bin, in their order, or why they cannot be used; rows without a name differ."""
    named: dict[str, dict[int, Product]] = {}
    for _, line, name, product, problem in rows:
        if problem:
            return None, problem
        (named.setdefault(name or str(line), {})[line],) = decode_contents(product)
    return encode_contents(map(joined, named.values())), ""


def _open_database(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        # If the machine crashes, the last commits may be lost and are computed again; a killed process loses none.
        for setting in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=NORMAL"):
            db.execute(f"PRAGMA {setting}")
        db.execute(f"CREATE TABLE IF NOT EXISTS bins ({COLUMNS})")
        db.execute("BEGIN IMMEDIATE").execute("COMMIT")
    except sqlite3.Error:
        db.close()  # its lock would keep this very process out
        raise
    return db
