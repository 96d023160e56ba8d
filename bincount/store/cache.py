"""The bounded local copy of a workspace in object storage, and what is known of its files."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from bincount.errors import StoreError

_log = logging.getLogger(__name__)

_TABLES = """
CREATE TABLE IF NOT EXISTS files (name TEXT PRIMARY KEY, etag TEXT, size INTEGER, mtime_ns INTEGER, used REAL);
CREATE TABLE IF NOT EXISTS checked (source TEXT PRIMARY KEY);
"""


@dataclass(frozen=True, slots=True)
class Synced:
    """A file as it was when it was last the same here and in the bucket.

    Attributes:
        etag: The object's.
        size: Of the file in bytes.
        mtime_ns: When it was written.
    """

    etag: str
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path, etag: str) -> Synced:
        """The file as it is now."""
        stat = path.stat()
        return cls(etag, stat.st_size, stat.st_mtime_ns)

    def is_unchanged(self, path: Path) -> bool:
        """True if the file is still there and the same."""
        try:
            stat = path.stat()
        except FileNotFoundError:
            return False
        return (stat.st_size, stat.st_mtime_ns) == (self.size, self.mtime_ns)


class Cache:
    """The files of a folder that are objects of a bucket too; processes may share it.

    The least recently used ones are deleted where they take more than the bound, except for
    those that a living process has used. A file that was changed since it was pushed stays.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        """Opens or creates the cache.

        Args:
            folder: Holds the files and `.cache.db`.
            most_bytes: How large they may be together.

        Raises:
            StoreError: If it cannot be opened.
        """
        self._folder, self._most_bytes = folder, most_bytes
        self._path = folder / ".cache.db"
        with self._db() as db:
            db.executescript(_TABLES)
        self._session = self._begin_session()

    def find(self, name: str) -> Synced | None:
        """Tag, size and time of a file when it was last in sync; None for one that never was."""
        with self._db() as db:
            row = db.execute("SELECT etag, size, mtime_ns FROM files WHERE name = ?", (name,)).fetchone()
        return row and Synced(*row)

    def below(self, folder: str) -> dict[str, Synced]:
        """Every file below a folder, by name."""
        start = f"{folder}/"
        with self._db() as db:
            rows = db.execute(
                "SELECT name, etag, size, mtime_ns FROM files WHERE substr(name, 1, ?) = ?", (len(start), start)
            ).fetchall()
        return {name: Synced(*row) for name, *row in rows}

    def note(self, name: str, synced: Synced) -> None:
        """Notes that a file is in sync, and in use."""
        with self._db() as db:
            row = (name, synced.etag, synced.size, synced.mtime_ns, time.time())
            db.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", row)

    def use(self, names: Iterable[str]) -> None:
        """Notes that files are in use."""
        with self._db() as db:
            db.executemany("UPDATE files SET used = ? WHERE name = ?", [(time.time(), name) for name in names])

    def forget(self, *names: str) -> None:
        """Notes that files are in the bucket no longer."""
        with self._db() as db:
            db.executemany("DELETE FROM files WHERE name = ?", [(name,) for name in names])

    def make_room(self, size: int) -> None:
        """Deletes what was least recently used until a file of `size` bytes has room."""
        with self._db() as db:
            (taken,) = db.execute("SELECT COALESCE(SUM(size), 0) FROM files").fetchone()
            if taken + size <= self._most_bytes:
                return
            since = self._oldest_session()
            oldest = db.execute(
                "SELECT name, etag, size, mtime_ns FROM files WHERE used < ? ORDER BY used", (since,)
            ).fetchall()
            for name, *row in oldest:
                path, synced = self._folder / name, Synced(*row)
                if not synced.is_unchanged(path) and path.exists():
                    continue
                path.unlink(missing_ok=True)
                db.execute("DELETE FROM files WHERE name = ?", (name,))
                taken -= synced.size
                if taken + size <= self._most_bytes:
                    return
        _log.warning(
            "%s: one step needs %.1f GB, more than the %.1f GB of BINCOUNT_CACHE_GB; the disk decides",
            self._folder,
            (taken + size) / 1e9,
            self._most_bytes / 1e9,
        )

    def is_checked(self, source: str) -> bool:
        """True if it is known that the bucket has conditional writes."""
        with self._db() as db:
            return db.execute("SELECT 1 FROM checked WHERE source = ?", (source,)).fetchone() is not None

    def set_checked(self, source: str) -> None:
        """Notes that it has."""
        with self._db() as db:
            db.execute("INSERT OR REPLACE INTO checked VALUES (?)", (source,))

    @contextlib.contextmanager
    def _db(self) -> Iterator[sqlite3.Connection]:
        # Opened for each use: a connection must not pass a fork, nor go from thread to thread.
        try:
            with contextlib.closing(sqlite3.connect(self._path, timeout=60)) as db, db:
                yield db
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: must be readable and writable, got {error}. Delete the cache.") from error

    def close(self) -> None:
        """Ends the use of the files, which the end of the process does too."""
        os.close(self._session)

    def _begin_session(self) -> int:
        """A locked file for as long as this process lives; its time is when the process began."""
        sessions = self._folder / ".sessions"
        sessions.mkdir(exist_ok=True)
        while True:
            path = sessions / uuid4().hex
            file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
            fcntl.flock(file, fcntl.LOCK_EX)
            if path.exists():  # another process may have taken it for a dead one's before it was locked
                return file
            os.close(file)

    def _oldest_session(self) -> float:
        """When the oldest living process began; files of dead ones are deleted."""
        began = [time.time()]
        for path in (self._folder / ".sessions").iterdir():
            try:
                with path.open("rb") as file:
                    began.append(path.stat().st_mtime)
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                    began.pop()
            except (BlockingIOError, FileNotFoundError):
                continue
        return min(began)
