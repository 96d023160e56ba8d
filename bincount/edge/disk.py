"""What the file system says, in bincount's words, and whose turn it is to write."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

from bincount.core.errors import BincountError, ConfigError, StoreError

_log = logging.getLogger(__name__)

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)
# NumPy and TensorFlow say it in words alone.
_WORDS = ("Not enough free space", *map(os.strerror, (*_FULL, errno.EROFS)))


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
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


@contextlib.contextmanager
def alone(path: Path, what: str, *, patience_s: float = math.inf) -> Iterator[None]:
    """Keeps others that share the workspace from doing the same at the same time: they wait.

    Args:
        path: The file that is held; the kernel lets go of it when the process ends, however it does.
        what: What is being done, for log and message.
        patience_s: How long to wait for somebody else.

    Raises:
        StoreError: If somebody else has been at it all that time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        began, told = time.monotonic(), False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() - began > patience_s:
                    raise StoreError(
                        f"{what}: must be done by one at a time, got another for {patience_s:.0f} s. "
                        f"See who holds {path}."
                    ) from None
                if not told:
                    _log.info("%s: waiting, another process does the same (%s)", what, path)
                told = True
                time.sleep(0.05)
        yield


def _why(error: Exception) -> str | None:
    code = error.errno if isinstance(error, OSError) else None
    if code in (*_FULL, *_REFUSED):
        return os.strerror(code)
    return next((words for words in _WORDS if words in str(error)), None)
