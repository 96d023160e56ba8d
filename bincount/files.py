"""Small files that appear whole or not at all, and what becomes of one that is damaged all the same."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from bincount.errors import BincountError, ConfigError

_log = logging.getLogger(__name__)


def write_atomically(path: Path, chunks: Iterable[bytes]) -> None:
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
    """Writes a JSON document as `write_atomically` does."""
    write_atomically(path, [json.dumps(document, indent=1).encode()])


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
    rename_damaged(path)
    return None


def is_whole_zip(path: Path) -> bool:
    """True if an archive, such as a saved Keras model, is there and all its parts have their checksums."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return False


def rename_damaged(path: Path) -> None:
    """Renames a damaged file, for whoever looks why; what needs it makes it again."""
    aside = path.with_name(f"{path.name}.damaged")
    try:
        path.replace(aside)
    except FileNotFoundError:  # another process was first
        return
    _log.warning("%s: is not what was written. It is set aside as %s and made again.", path, aside.name)


def digest_of(value: object) -> str:
    """Names a JSON-ready value: 16 hex digits of the SHA-256 of its canonical JSON.

    Equal values have equal names whatever the order of their keys.

    Raises:
        TypeError: If `value` holds what JSON does not know.
        ValueError: If it holds NaN or an infinity.

    Example:
        >>> digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
        True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sha256_of_file(path: Path) -> str:
    """The SHA-256 of a file, 64 hex digits.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)
# NumPy and TensorFlow say it in words alone.
_WORDS = ("Not enough free space", *map(os.strerror, (*_FULL, errno.EROFS)))


@contextlib.contextmanager
def explain_disk_errors(folder: Path) -> Iterator[None]:
    """Says of a disk that takes no more what to do about it.

    Args:
        folder: What is written to, for the message where the error names no file.

    Raises:
        ConfigError: If the disk is full, read-only or not ours to write.
    """
    try:
        yield
    except BincountError:
        raise
    except Exception as error:
        why = _why(error)
        if why is None:
            raise
        raise ConfigError(
            f"{getattr(error, 'filename', None) or folder}: must be writable and have room, got {why!r}. "
            "Free some room or change its rights, then run again; what was finished is kept."
        ) from error


def _why(error: Exception) -> str | None:
    code = error.errno if isinstance(error, OSError) else None
    if code in (*_FULL, *_REFUSED):
        return os.strerror(code)
    return next((words for words in _WORDS if words in str(error)), None)
