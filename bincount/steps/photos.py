"""Photos out of a manifest's shards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from bincount.core.errors import DataError
from bincount.core.manifest import Manifest, Record
from bincount.core.shards import decode_example, read_record
from bincount.edge.settings import Settings


def photos_of(settings: Settings, manifest: Manifest, records: Sequence[Record]) -> Iterator[bytes]:
    """Reads the photo of each record, in the records' order.

    Args:
        settings: Names the workspace.
        manifest: Names the shards.
        records: Some of its records; those of one shard are best side by side.

    Raises:
        DataError: If a shard is missing or damaged, or holds another bin at a record's place.
    """
    for shard, together in groupby(records, key=lambda record: record.shard):
        path = settings.shards / manifest.shards[shard].name
        try:
            file = path.open("rb")
        except OSError as error:
            raise DataError(f"{path}: must be readable, got {error.strerror}. Run `bincount ingest` again.") from error
        with file:
            for record in together:
                example = decode_example(read_record(file, record.offset))
                if example["id"] != record.id.encode():
                    raise DataError(
                        f"{path.name}: bin {record.id} must start at byte {record.offset}, got {example['id']!r}. "
                        "Run `bincount ingest` again."
                    )
                yield bytes(example["image"])
