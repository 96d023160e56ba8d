"""What an ingest was asked for, and the folder in which it works."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bincount.core.digest import digest_of
from bincount.core.errors import ConfigError, DataError
from bincount.core.files import read_json, write_json
from bincount.edge.disk import alone, writing
from bincount.edge.settings import Settings

# Another number makes every shard and plan a new one.
FORMAT = 1


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
        """Where metadata are kept as they come."""
        return self.folder / "metadata.journal"

    @property
    def plan(self) -> Path:
        """The file of the plan."""
        return self.folder / "plan.jsonl"

    @property
    def done(self) -> Path:
        """The summary of the finished ingest."""
        return self.folder / "done.json"

    @property
    def doubt(self) -> Path:
        """Exists after an attempt that found too many faulty bins: they may be mended by now."""
        return self.folder / "doubt"

    def write_request(self, request: Request) -> None:
        """Notes what was asked for, for the workers that fetch a share of it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "request.json", asdict(request))

    def read_request(self) -> Request:
        """Reads what was asked for.

        Raises:
            ConfigError: If nothing was planned here.
        """
        found = read_json(self.folder / "request.json")
        if found is None:
            raise ConfigError(
                f"--request: must be planned first, got {self.folder.name!r}. Run `bincount plan` before."
            )
        return Request(**found)

    def read_done(self) -> dict[str, Any] | None:
        """The summary of the finished ingest, None where it is not finished."""
        return read_json(self.done)

    @contextlib.contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Keeps a second process from doing the same at the same time: it waits.

        Faulty bins are noted, so that the next attempt looks at them again.

        Raises:
            ConfigError: If the workspace cannot be written.
        """
        try:
            with writing(self.folder.parents[1]), alone(self.folder / f"{what}.lock", what):
                yield
        except DataError:
            self.doubt.touch()
            raise
