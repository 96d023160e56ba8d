"""The door to the bins: an S3 bucket or a folder in its layout."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bincount.core.errors import ConfigError, StoreError
from bincount.edge.settings import Settings

# A photo of the bucket has 0.2 MB at most; more than this is not read into memory.
MOST_BYTES = 16_000_000


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry of a listing.

    Attributes:
        key: Such as "bin-images/00001.jpg".
        size_bytes: The object's size.
        tag: Differs once the content differs: the ETag, or a file's time.
    """

    key: str
    size_bytes: int
    tag: str


@dataclass(frozen=True, slots=True)
class Fetched:
    """One object that was asked for.

    Attributes:
        key: Its key.
        data: Its bytes, None where there are none to be had.
        etag: The store's tag without quotes: of a plain object, its MD5.
        problem: Why there are no bytes: "missing", "denied", "too large" or
            "not readable"; "" where there are.
    """

    key: str
    data: bytes | None
    etag: str = ""
    problem: str = ""


class Store(Protocol):
    """Where bins are read from.

    Attributes:
        source: Its name: "s3://BUCKET", or the folder's path.
    """

    source: str

    @property
    def retries(self) -> Mapping[str, int]:
        """How often something was asked again, by cause."""

    def pages(self, prefix: str) -> Iterator[list[Listed]]:
        """Lists the objects below a prefix, page by page, in no particular order.

        Raises:
            ConfigError: If the source may not be listed, or is not there.
            StoreError: If it does not answer.
        """

    def fetch(self, keys: Iterable[str], *, workers: int) -> Generator[Fetched, None, None]:
        """Reads objects, each with one request, many at a time.

        Objects come in the order of their keys, whatever arrives first, and a
        bounded number is held in memory. An object that cannot be had is an answer, no error.

        Args:
            keys: Which objects; taken from as they are needed.
            workers: How many to ask for at a time, >= 1.

        Raises:
            ConfigError: If nothing has been read yet and the source is absent or denied.
            StoreError: If it does not answer: within 15 s where nothing has been read yet, else after 2 minutes.
        """


def open_store(source: str, settings: Settings) -> Store:
    """Opens a source of bins; nothing is asked of it yet.

    Args:
        source: "s3://BUCKET", or the path of a folder.
        settings: Names the endpoints of buckets that are not on AWS.

    Raises:
        ConfigError: If `source` is neither, or the folder is not there.
    """
    if source.startswith("s3://"):
        from bincount.edge.s3 import S3Store

        return S3Store(source, settings)
    if "://" in source:
        raise ConfigError(f"source: must be s3://BUCKET or a folder, got {source!r}. Name where the bins are.")
    return FolderStore(source)


class FolderStore:
    """A folder in the bucket's layout."""

    def __init__(self, source: str) -> None:
        self._root = Path(source).expanduser().absolute()
        self.source = str(self._root)
        if not self._root.is_dir():
            raise ConfigError(f"source: must be a folder or s3://BUCKET, got {source!r}. Check the path.")

    @property
    def retries(self) -> Mapping[str, int]:
        """Nothing: a folder answers or fails."""
        return {}

    def pages(self, prefix: str) -> Iterator[list[Listed]]:
        """Lists the files of a folder, in one page."""
        folder = self._root / prefix
        if not folder.is_dir():
            yield []
            return
        try:
            with os.scandir(folder) as entries:
                found = [_listed(prefix, entry) for entry in entries if entry.is_file()]
        except PermissionError as error:
            raise ConfigError(f"{folder}: must be readable, got {error.strerror!r}. Change its rights.") from error
        except OSError as error:
            raise _unreadable(folder, error) from error
        yield found

    def fetch(self, keys: Iterable[str], *, workers: int) -> Generator[Fetched, None, None]:
        """Reads files in the order of `keys`."""
        # One at a time: the disk's own read-ahead is faster than threads here.
        return (self._read(key) for key in keys)

    def _read(self, key: str) -> Fetched:
        path = self._root / key
        try:
            if path.stat().st_size > MOST_BYTES:
                return Fetched(key, None, problem="too large")
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return Fetched(key, None, problem="missing")
        except PermissionError:
            return Fetched(key, None, problem="denied")
        except OSError as error:
            raise _unreadable(path, error) from error
        return Fetched(key, data, hashlib.md5(data, usedforsecurity=False).hexdigest())


def _listed(prefix: str, entry: os.DirEntry[str]) -> Listed:
    found = entry.stat()
    return Listed(f"{prefix}{entry.name}", found.st_size, str(found.st_mtime_ns))


def _unreadable(path: Path, error: OSError) -> StoreError:
    return StoreError(f"{path}: must be readable, got {error.strerror!r}. Check the disk or mount, and run again.")
