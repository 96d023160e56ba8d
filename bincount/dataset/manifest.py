"""The list of what an ingest brought in, named by its content."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from operator import attrgetter
from pathlib import Path
from uuid import uuid4

from bincount.counts import Counts
from bincount.dataset.split import AUXILIARY
from bincount.errors import DataError
from bincount.settings import Settings
from bincount.store.workspace import open_workspace

_FORMAT = "bincount-manifest-1"


@dataclass(frozen=True, slots=True)
class Record:
    """One bin of a manifest.

    Attributes:
        id: The bin's id, a string: "523" and "00523" are different bins.
        group: First id of the run of photos of one bin that it belongs to.
        recorded: Recorded number of items in it.
        part: "train", "validation", "calibration", "test", or "auxiliary" for a count that was not requested.
        n_skus: Number of distinct products recorded in it.
        width_px: Width of the photo.
        height_px: Height of the photo.
        size_bytes: Size of the photo's file.
        etag: The store's tag of the photo, "" where it has none.
        shard: Index into the manifest's shards.
        offset: Byte at which the bin's TFRecord starts in its shard.
    """

    id: str
    group: str
    recorded: int
    part: str
    n_skus: int
    width_px: int
    height_px: int
    size_bytes: int
    etag: str
    shard: int
    offset: int


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of photos: its name under the workspace's `shards/` and its SHA-256 and size."""

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Manifest:
    """The bins of one ingest, complete, in the order of their shards.

    Attributes:
        source: Where they came from, such as "s3://aft-vbi-pds".
        counts: The counts that were wanted.
        shards: The files that hold their photos.
        records: One a bin, ordered by `groups.sort_key_of` of its id.
    """

    source: str
    counts: Counts
    shards: Sequence[Shard]
    records: Sequence[Record]

    @property
    def learned_counts(self) -> Counts:
        """The counts that a whole network tells apart: with auxiliary bins those from 0 up with an open top."""
        if not self.part(AUXILIARY):
            return self.counts
        return Counts(0, self.counts.high, open_top=True)

    def part(self, name: str) -> list[Record]:
        """The records of one part, in order."""
        return [record for record in self.records if record.part == name]

    def lines(self) -> Iterator[bytes]:
        """The manifest's content: a line about itself, then a JSON array a record."""
        names = [field.name for field in fields(Record)]
        head = {
            "format": _FORMAT,
            "source": self.source,
            "counts": str(self.counts),
            "shards": [asdict(shard) for shard in self.shards],
            "fields": names,
        }
        encode = json.JSONEncoder(separators=(",", ":")).encode
        yield encode(head).encode() + b"\n"
        values_of = attrgetter(*names)
        for record in self.records:
            yield encode(values_of(record)).encode() + b"\n"

    @property
    def digest(self) -> str:
        """The manifest's name: 16 hex digits of the content's SHA-256."""
        hashed = hashlib.sha256()
        for line in self.lines():
            hashed.update(line)
        return hashed.hexdigest()[:16]

    def write(self, folder: Path) -> str:
        """Writes the manifest under its digest, in one step.

        Returns:
            The digest.
        """
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / f".manifest.{uuid4().hex[:8]}"
        hashed = hashlib.sha256()
        with beside.open("wb") as file:
            for line in self.lines():
                hashed.update(line)
                file.write(line)
            file.flush()
            os.fsync(file.fileno())
        digest = hashed.hexdigest()[:16]
        beside.replace(folder / f"{digest}.jsonl")
        return digest

    @classmethod
    def read(cls, folder: Path, digest: str) -> Manifest:
        """Reads the manifest of that digest.

        Raises:
            DataError: If there is none, or its content is not the one it is named after.
        """
        path = folder / f"{digest}.jsonl"
        if not digest.isalnum() or not path.is_file():
            raise DataError(f"manifest: must exist in the workspace, got {digest!r}. Run `bincount ingest` first.")
        content = path.read_bytes()
        actual = hashlib.sha256(content).hexdigest()[:16]
        if actual != digest:
            raise DataError(
                f"{path.name}: content must have the digest it is named after, got {actual}. "
                "Delete the file and run `bincount ingest` again."
            )
        head, *rows = (json.loads(line) for line in content.splitlines())
        return cls(
            source=head["source"],
            counts=Counts.parse(head["counts"]),
            shards=[Shard(**shard) for shard in head["shards"]],
            records=[Record(**dict(zip(head["fields"], row, strict=True))) for row in rows],
        )


def read_manifest(settings: Settings, digest: str) -> Manifest:
    """Reads the manifest of that digest from the workspace; errors are those of `Manifest.read`."""
    if digest.isalnum():
        open_workspace(settings).pull(settings.manifests / f"{digest}.jsonl")
    return Manifest.read(settings.manifests, digest)
