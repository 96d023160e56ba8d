"""The workspace that all workers share: a folder, or objects below a prefix of a bucket with a copy on each machine.

A step works on files in `Settings.workspace` in both cases. It pulls what it reads and pushes what it has finished;
for a folder, both do nothing.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bincount.locks import exclusive_lock
from bincount.settings import Settings

if TYPE_CHECKING:
    from bincount.store.bucket_workspace import BucketWorkspace

_log = logging.getLogger(__name__)


class Workspace(Protocol):
    """The files that all workers share."""

    def pull(self, *files: Path) -> None:
        """Replaces local copies of some files by the shared ones; a file that is not shared is left alone.

        Raises:
            StoreError: If the bucket does not answer, or an object is not what was pushed.
        """

    def pull_folder(self, folder: Path, *patterns: str) -> None:
        """Does so for the files below a folder whose names match one of the patterns, by default all.

        A copy that is shared no longer is deleted, unless it was changed here since it was pushed.
        """

    def push(self, *paths: Path) -> None:
        """Shares files that are finished, each whole or not at all and in this order; of folders all files.

        A file is written only if the shared one is still the one that was pulled or pushed here last.

        Raises:
            StoreError: If another worker has changed it since, if a lease was lost, or the bucket does not answer.
        """

    def publish(self, folder: Path, *, last: str) -> None:
        """Shares a folder in place of the one before; the file `last` comes last: with it the folder is complete."""

    def checkpoint(self, path: Path, write: Callable[[], object] = lambda: None) -> None:
        """Pushes work in progress, seldom enough to take a twentieth of the time; `write` writes the file before."""

    def delete(self, *files: Path) -> None:
        """Deletes shared files; the caller deletes those on this machine."""

    def delete_folder(self, folder: Path) -> None:
        """Deletes all shared files below a folder."""

    def sha256_of(self, file: Path) -> str | None:
        """SHA-256 of a shared file that may not be on this machine; None if there is none, or in a folder."""

    def lock(self, path: Path, what: str, *, timeout_s: float = math.inf) -> contextlib.AbstractContextManager[None]:
        """A lock that other workers wait for, a lease in the bucket; the folder of `path` is created."""


def open_workspace(settings: Settings) -> Workspace:
    """The workspace of this process.

    Raises:
        ConfigError: If the bucket lacks conditional writes.
    """
    if settings.remote is None:
        return FolderWorkspace()
    from bincount.store.bucket_workspace import BucketWorkspace

    key = (settings.workspace, settings.remote)
    if key not in _opened:
        _opened[key] = BucketWorkspace(settings)
    return _opened[key]


_opened: dict[tuple[Path, str], BucketWorkspace] = {}
"""Those of this process: leases are checked by whoever pushes."""


def log_usage() -> None:
    """Logs what this process asked of the bucket of its workspace, as it is billed; nothing for a folder."""
    for one in _opened.values():
        asked = ", ".join(f"{one.usage[kind]} {kind}" for kind in ("get", "put", "list", "delete", "lease"))
        _log.info(
            "workspace: asked for %s; %.3f MB pulled, %.3f MB pushed",
            asked,
            one.usage["pulled"] / 1e6,
            one.usage["pushed"] / 1e6,
        )


class FolderWorkspace:
    """A folder that all workers see: there is nothing to pull or push."""

    def pull(self, *files: Path) -> None:
        """Nothing."""

    def pull_folder(self, folder: Path, *patterns: str) -> None:
        """Nothing."""

    def push(self, *paths: Path) -> None:
        """Nothing."""

    def publish(self, folder: Path, *, last: str) -> None:
        """Nothing."""

    def checkpoint(self, path: Path, write: Callable[[], object] = lambda: None) -> None:
        """Nothing."""

    def delete(self, *files: Path) -> None:
        """Nothing."""

    def delete_folder(self, folder: Path) -> None:
        """Nothing."""

    def sha256_of(self, file: Path) -> str | None:
        """None: the file itself tells."""
        return None

    def lock(self, path: Path, what: str, *, timeout_s: float = math.inf) -> contextlib.AbstractContextManager[None]:
        """A lock of the kernel."""
        return exclusive_lock(path, what, timeout_s=timeout_s)
