"""The interface of a store of bins, an S3 bucket or a folder."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

# A photo of the Amazon bucket has 0.2 MB at most; a larger object is not read into memory.
MAX_OBJECT_BYTES = 16_000_000


@dataclass(frozen=True, slots=True)
class ListedObject:
    """One entry of a listing.

    Attributes:
        key: Such as "bin-images/00001.jpg".
        size_bytes: The object's size.
        tag: Changes with the content: the ETag, or a file's time.
    """

    key: str
    size_bytes: int
    tag: str


@dataclass(frozen=True, slots=True)
class FetchedObject:
    """The answer to a request for one object.

    Attributes:
        key: Its key.
        data: Its bytes; None if they cannot be had.
        etag: The store's tag without quotes: of a plain object, its MD5.
        problem: Why there are no bytes: "missing", "denied", "too large" or
            "not readable"; "" if there are.
    """

    key: str
    data: bytes | None
    etag: str = ""
    problem: str = ""


class Store(Protocol):
    """A source of bins.

    Attributes:
        source: Its canonical name: "s3://BUCKET", "s3://BUCKET/PREFIX" or the folder's path.
    """

    source: str

    @property
    def retries(self) -> Mapping[str, int]:
        """Number of retried requests by cause."""

    def pages(self, prefix: str) -> Iterator[list[ListedObject]]:
        """Lists the objects below a prefix, page by page, in no particular order.

        Raises:
            ConfigError: If the source does not exist or may not be listed.
            StoreError: If it does not answer, or a listing does not progress.
        """

    def fetch(self, keys: Iterable[str], *, workers: int) -> Generator[FetchedObject, None, None]:
        """Reads objects, each with one request, many at a time.

        Answers come in the order of the keys, and a bounded number is held in
        memory. An object that cannot be had is an answer, not an error.

        Args:
            keys: Which objects; consumed as they are needed.
            workers: Number of concurrent requests, >= 1.

        Raises:
            ConfigError: If nothing has been read yet and the source is absent or access is denied.
            StoreError: If it does not answer. For a bucket: within 15 s if not even its connection could be opened,
                else after 2 minutes of failed attempts.
        """
