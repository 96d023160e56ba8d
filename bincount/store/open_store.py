"""Opens the store that a source names."""

from __future__ import annotations

from bincount.errors import ConfigError
from bincount.settings import Settings
from bincount.store.folder import FolderStore
from bincount.store.interface import Store


def open_store(source: str, settings: Settings) -> Store:
    """Opens a source of bins without asking it anything yet.

    Args:
        source: "s3://BUCKET", "s3://BUCKET/PREFIX" or the path of a folder.
        settings: Names the endpoints of buckets that are not on AWS.

    Raises:
        ConfigError: If `source` is neither, or the folder does not exist.
    """
    if source.startswith("s3://"):
        from bincount.store.s3 import S3Store

        return S3Store(source, settings)
    if "://" in source:
        raise ConfigError(f"source: must be s3://BUCKET or a folder, got {source!r}.")
    return FolderStore(source)
