"""Small files that appear whole or not at all, and what becomes of one that is damaged all the same."""

from __future__ import annotations

import json
import logging
import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

_log = logging.getLogger(__name__)


def write_whole(path: Path, chunks: Iterable[bytes]) -> None:
    """Writes a file whole or not at all, and for good: a machine that loses its power keeps it."""
    beside = path.with_name(f".{path.name}.{uuid4().hex[:8]}")  # the same process id is in every container
    try:
        with beside.open("wb") as file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Writes a JSON document as `write_whole` does."""
    write_whole(path, [json.dumps(document, indent=1).encode()])


def read_json(path: Path) -> dict[str, Any] | None:
    """Reads a JSON document that can be made again.

    Returns:
        The document; None where there is none, or where it is damaged: it is set aside then.
    """
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        document = None
    if isinstance(document, dict):
        return document
    set_aside(path)
    return None


def is_whole_zip(path: Path) -> bool:
    """Whether an archive, such as a saved Keras model, is there and all its parts have their checksums."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return False


def set_aside(path: Path) -> None:
    """Renames a damaged file, for whoever looks why; what needs it makes it again."""
    aside = path.with_name(f"{path.name}.damaged")
    try:
        path.replace(aside)
    except FileNotFoundError:  # another process was first
        return
    _log.warning("%s: is not what was written. It is set aside as %s and made again.", path, aside.name)
