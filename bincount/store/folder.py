"""A folder in the bucket's layout, as a store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path

from bincount.errors import ConfigError, StoreError
from bincount.store.interface import MAX_OBJECT_BYTES, FetchedObject, ListedObject


class FolderStore:
    """A folder; its name is the resolved path, however it is written."""

    def __init__(self, source: str) -> None:
        self._root = Path(source).expanduser().resolve()
        self.source = str(self._root)
        if not self._root.is_dir():
            raise ConfigError(f"source: must be a folder or s3://BUCKET, got {source!r}.")

    @property
    def retries(self) -> Mapping[str, int]:
        """Nothing: reading a file is not retried."""
        return {}

    def pages(self, prefix: str) -> Iterator[list[ListedObject]]:
        """Lists the files of a folder, in one page."""
        folder = self._root / prefix
        if not folder.is_dir():
            yield []
            return
        try:
            with os.scandir(folder) as entries:
                found = [_listed(prefix, entry) for entry in entries if entry.is_file()]
        except PermissionError as error:
            raise ConfigError(f"{folder}: must be readable, got {error.strerror!r}.") from error
        except OSError as error:
            raise _unreadable(folder, error) from error
        yield found

    def fetch(self, keys: Iterable[str], *, workers: int) -> Generator[FetchedObject, None, None]:
        """Reads files in the order of `keys`."""
        # One at a time: the disk's own read-ahead is faster than threads here.
        return (self._read(key) for key in keys)

    def _read(self, key: str) -> FetchedObject:
        path = self._root / key
        try:
            if path.stat().st_size > MAX_OBJECT_BYTES:
                return FetchedObject(key, None, problem="too large")
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return FetchedObject(key, None, problem="missing")
        except PermissionError:
            return FetchedObject(key, None, problem="denied")
        except OSError as error:
            raise _unreadable(path, error) from error
        return FetchedObject(key, data, hashlib.md5(data, usedforsecurity=False).hexdigest())


def _listed(prefix: str, entry: os.DirEntry[str]) -> ListedObject:
    found = entry.stat()
    return ListedObject(f"{prefix}{entry.name}", found.st_size, str(found.st_mtime_ns))


def _unreadable(path: Path, error: OSError) -> StoreError:
    return StoreError(f"{path}: must be readable, got {error.strerror!r}. Check the disk or mount, and run again.")
