"""The bins of one reconciliation on disk, so that any number fits in memory and a killed run goes on."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from bincount.dataset.inventory import InventoryRow
from bincount.errors import ConfigError, DataError, StoreError

_PAGE = 2048
COLUMNS = """
    place INTEGER PRIMARY KEY, id TEXT, has_photo INTEGER, recorded INTEGER, location TEXT, unit_value REAL,
    problem TEXT, photo_problem TEXT, probabilities BLOB, looks BLOB,
    verdict TEXT, probability REAL, direction TEXT, size REAL, low INTEGER, high INTEGER, cost REAL, learned INTEGER
"""
"""`place` is the row's in its file; `problem` says why its record cannot be used, `photo_problem` the same of its
photo; `probabilities` are C float64 and `looks` is of `watching.LOOKS`; what follows is written by `judging`."""


class ReconcileState:
    """One request's bins in a SQLite file; what is committed stays, whatever happens to the process."""

    def __init__(self, path: Path) -> None:
        """Opens the file for this process alone.

        Raises:
            ConfigError: If another process is at the same request.
            StoreError: If the file cannot be had.
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = _opened(path)
        except (sqlite3.Error, OSError) as error:
            if "locked" in str(error):
                raise ConfigError(
                    f"reconcile: only one process may be at a request, got another at {path}. Wait."
                ) from None
            raise StoreError(
                f"{path}: must be readable and writable, got {error}. Free some room, or delete it, and run again."
            ) from error

    def __enter__(self) -> ReconcileState:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._db.close()
        if isinstance(error, sqlite3.Error):
            raise StoreError(f"{self.path}: must be writable, got {error}. Free some room, and run again.") from error

    def remove(self) -> None:
        """Deletes the file: its work is done."""
        self._db.close()
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                self.path.with_name(self.path.name + suffix).unlink()

    @property
    def is_loaded(self) -> bool:
        """Whether all rows are there."""
        return bool(self._db.execute("PRAGMA user_version").fetchone()[0])

    def load(self, rows: Iterable[InventoryRow]) -> None:
        """Takes the rows in, all or none.

        Raises:
            DataError: If an id stands twice among them: which of the two records is right is not ours to say.
        """
        self._db.execute("BEGIN")
        try:
            self._db.execute("DELETE FROM bins")
            self._db.executemany(
                "INSERT INTO bins (id, has_photo, recorded, location, unit_value, problem) VALUES (?, ?, ?, ?, ?, ?)",
                ((row.id, row.has_photo, row.recorded, row.location, row.unit_value, row.problem) for row in rows),
            )
            self._db.execute("CREATE INDEX IF NOT EXISTS by_id ON bins (id) WHERE has_photo")
            twice = self._db.execute(
                "SELECT id, COUNT(*), MIN(place), MAX(place) FROM bins WHERE has_photo GROUP BY id HAVING COUNT(*) > 1 "
                "ORDER BY MIN(place) LIMIT 1"
            ).fetchone()
            if twice:
                raise DataError(
                    f"records: each bin must stand there once, got {twice[0]!r} {twice[1]} times, "
                    f"in rows {twice[2]} and {twice[3]}. Sum the rows of one bin, or remove the wrong ones."
                )
            self._db.execute("PRAGMA user_version = 1")
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise

    def count(self, where: str, *values: object) -> int:
        """How many rows fulfil a condition."""
        return int(self._db.execute(f"SELECT COUNT(*) FROM bins WHERE {where}", values).fetchone()[0])  # noqa: S608 ours

    def one(self, what: str) -> float:
        """An aggregate of all rows, 0 where there is none."""
        return self._db.execute(f"SELECT {what} FROM bins").fetchone()[0] or 0  # noqa: S608 ours

    def tally(self, column: str) -> dict[str, int]:
        """How many rows hold each text of a column, the most frequent first; "" and NULL are left out."""
        found = self._db.execute(
            f"SELECT {column}, COUNT(*) FROM bins WHERE {column} <> '' GROUP BY 1 ORDER BY 2 DESC, 1"  # noqa: S608 ours
        )
        return dict(found.fetchall())

    def pages(self, columns: str, where: str) -> Iterator[list[tuple]]:
        """Rows in their order, page by page, so that they may be written to meanwhile; `place` comes first."""
        last = 0
        while page := self._db.execute(
            f"SELECT place, {columns} FROM bins WHERE place > ? AND ({where}) ORDER BY place LIMIT ?",  # noqa: S608 ours
            (last, _PAGE),
        ).fetchall():
            yield page
            last = page[-1][0]

    def update(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Writes columns of rows and commits; each row is its new values, then its place."""
        self._db.execute("BEGIN")
        said = ", ".join(f"{column} = ?" for column in columns)
        self._db.executemany(f"UPDATE bins SET {said} WHERE place = ?", rows)  # noqa: S608 ours
        self._db.execute("COMMIT")

    def ranked(self, columns: str, *, limit: int = -1) -> Iterator[tuple]:
        """Rows worst first: by expected cost; what could not be judged comes last."""
        yield from self._db.execute(
            f"SELECT {columns} FROM bins ORDER BY cost IS NULL, cost DESC, place LIMIT ?",  # noqa: S608 ours
            (limit,),
        )


def _opened(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        # A page that is not on disk when the machine (not the process) dies means to start again, no more.
        for setting in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=NORMAL"):
            db.execute(f"PRAGMA {setting}")
        db.execute(f"CREATE TABLE IF NOT EXISTS bins ({COLUMNS})")
        db.execute("BEGIN IMMEDIATE").execute("COMMIT")
    except sqlite3.Error:
        db.close()  # else this very process would keep itself out
        raise
    return db
