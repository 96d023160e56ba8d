"""What a store of bins answers, whether it is an S3 bucket or a folder in the bucket's layout."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

# A photo of the bucket has 0.2 MB at most; more than this is not read into memory.
MAX_OBJECT_BYTES = 16_000_000


@dataclass(frozen=True, slots=True)
class ListedObject:
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
class FetchedObject:
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

    def pages(self, prefix: str) -> Iterator[list[ListedObject]]:
        """Lists the objects below a prefix, page by page, in no particular order.

        Raises:
            ConfigError: If the source may not be listed, or is not there.
            StoreError: If it does not answer.
        """

    def fetch(self, keys: Iterable[str], *, workers: int) -> Generator[FetchedObject, None, None]:
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
