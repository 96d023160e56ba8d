"""What an ingest was asked for, and the folder in which it works."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bincount.core.digest import digest_of
from bincount.core.errors import ConfigError, DataError
from bincount.edge.settings import Settings

log = logging.getLogger(__name__)

# Another number makes every shard and plan a new one.
FORMAT = 1
_NO_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


@dataclass(frozen=True)
class Request:
    """What was asked for; the same question has the same name.

    How many bins may be faulty is no part of it: it decides whether the answer
    is published, not what it is.

    Attributes:
        source: The store's name.
        candidates: Digest of the bins to choose from.
        counts: Which counts are wanted, such as "1-5".
        limit: How many bins to draw, None for all.
        seed: What the draw depends on, None where nothing is drawn.
    """

    source: str
    candidates: str
    counts: str
    limit: int | None
    seed: int | None

    @property
    def name(self) -> str:
        """The name of the request's folder."""
        return digest_of({"format": FORMAT, **asdict(self)})


@dataclass(frozen=True)
class Work:
    """The folder of one request, where an ingest that was stopped goes on."""

    folder: Path

    @classmethod
    def of(cls, settings: Settings, name: str) -> Work:
        """The folder of the request of that name.

        Raises:
            ConfigError: If `name` is no request's name.
        """
        if not (name.isalnum() and name.isascii()):
            raise ConfigError(f"--request: must be letters and digits, got {name!r}. Take it from `bincount plan`.")
        return cls(settings.ingests / name)

    @property
    def journal(self) -> Path:
        return self.folder / "metadata.journal"

    @property
    def plan(self) -> Path:
        return self.folder / "plan.jsonl"

    @property
    def done(self) -> Path:
        return self.folder / "done.json"

    @property
    def doubt(self) -> Path:
        """Exists after an attempt that found too many faulty bins: they may be mended by now."""
        return self.folder / "doubt"

    def write_request(self, request: Request) -> None:
        """Notes what was asked for, for the workers that fetch a share of it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / "request.json", [json.dumps(asdict(request), indent=1).encode()])

    def read_request(self) -> Request:
        """Reads what was asked for.

        Raises:
            ConfigError: If nothing was planned here.
        """
        path = self.folder / "request.json"
        if not path.is_file():
            raise ConfigError(
                f"--request: must be planned first, got {self.folder.name!r}. Run `bincount plan` before."
            )
        return Request(**json.loads(path.read_bytes()))

    def read_done(self) -> dict[str, Any] | None:
        """The summary of the finished ingest, None where it is not finished."""
        return json.loads(self.done.read_bytes()) if self.done.is_file() else None

    @contextlib.contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Keeps a second process from doing the same at the same time: it waits.

        Faulty bins are noted, so that the next attempt looks at them again.

        Raises:
            ConfigError: If the workspace cannot be written.
        """
        try:
            with self._locked(what):
                yield
        except DataError:
            self.doubt.touch()
            raise
        except OSError as error:
            if error.errno not in _NO_WRITE:
                raise
            raise ConfigError(
                f"{self.folder.parents[1]}: must be writable and have room, got {error.strerror!r}. "
                "Free some room or change its rights, then run again; what was fetched is kept."
            ) from error

    @contextlib.contextmanager
    def _locked(self, what: str) -> Iterator[None]:
        # The kernel frees the lock of a process that is killed.
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{what}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.info("Waiting: another process does the same %s (%s)", what, self.folder)
                fcntl.flock(file, fcntl.LOCK_EX)
            yield


def write_whole(path: Path, chunks: Iterable[bytes]) -> None:
    """Writes a file whole or not at all, and for good."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("wb") as file:
        file.writelines(chunks)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
