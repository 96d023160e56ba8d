"""The log of served answers: its columns, and what is read from its files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow
from pyarrow import parquet

from bincount.errors import ConfigError, DataError

SERVED, SHADOW = "served", "shadow"
"""The roles of a version: it answered the client, or the same request in the background."""

FILES, PHOTOS = "served-*.parquet", "photos"
"""The files of rows below the log's folder, and the folder of photos there."""

SCHEMA = pyarrow.schema(
    [
        ("time", pyarrow.timestamp("us", tz="UTC")),
        ("request", pyarrow.string()),
        ("row", pyarrow.int32()),
        ("role", pyarrow.string()),
        ("version", pyarrow.string()),
        ("digest", pyarrow.string()),
        ("status", pyarrow.int16()),
        ("latency_ms", pyarrow.float32()),
        ("recorded", pyarrow.int32()),
        ("count", pyarrow.int32()),
        ("confidence", pyarrow.float32()),
        ("probabilities", pyarrow.map_(pyarrow.string(), pyarrow.float32())),
        ("low", pyarrow.int32()),
        ("high", pyarrow.int32()),
        ("mismatch_probability", pyarrow.float32()),
        ("direction", pyarrow.string()),
        ("verdict", pyarrow.string()),
    ]
)
"""One row a photo and role. `request` and `row` are the same for both roles; `digest` is the photo's SHA-256."""


def read_served_log(
    folder: Path, columns: Sequence[str], filters: list[tuple[str, str, object]] | None = None
) -> pyarrow.Table:
    """The rows of a log, oldest files first; a server may be writing to it.

    Args:
        folder: The folder of `bincount serve --log`.
        columns: Names of `SCHEMA`.
        filters: Conditions on rows, as pyarrow takes them.

    Raises:
        ConfigError: If there is no such folder.
        DataError: If a file is damaged.
    """
    if not folder.is_dir():
        raise ConfigError(f"log: must be a folder of `bincount serve --log`, got {str(folder)!r}. Name another one.")
    tables = [pyarrow.schema([SCHEMA.field(name) for name in columns]).empty_table()]
    for path in sorted(folder.glob(FILES)):
        try:
            tables.append(parquet.read_table(path, columns=list(columns), filters=filters, partitioning=None))
        except FileNotFoundError:  # the oldest files go while a server writes
            continue
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{path}: must be a parquet file of the log, got {error}. Delete it.") from None
    return pyarrow.concat_tables(tables)


def shadowed_photos(folder: Path, version: str) -> int:
    """Number of different photos that a version answered as shadow.

    Args:
        folder: The folder of `bincount serve --log`.
        version: The version, such as "3".

    Raises:
        ConfigError: If there is no such folder.
        DataError: If a file is damaged.
    """
    mine = [("role", "=", SHADOW), ("version", "=", version), ("status", "=", 200)]
    return len(read_served_log(folder, ["digest"], mine)["digest"].unique())
