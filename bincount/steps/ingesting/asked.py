"""What an ingest is asked to do."""

from __future__ import annotations

from dataclasses import dataclass

from bincount.core.counts import Counts
from bincount.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How far an ingest goes; not what it finds.

    Attributes:
        workers: How many objects to ask for at a time, 1 to 512.
        max_rejected: Largest share of faulty bins that is published, 0 to 1.

    Raises:
        ConfigError: If one is outside its range.
    """

    # An answer takes 20 ms and more: with fewer requests at a time the processor would wait.
    workers: int = 256
    max_rejected: float = 0.02

    def __post_init__(self) -> None:
        if not 1 <= self.workers <= 512:
            raise ConfigError(f"--workers: must be 1 to 512, got {self.workers!r}. Try {Bounds.workers}.")
        if not 0 <= self.max_rejected <= 1:
            raise ConfigError(
                f"--max-rejected: must be a share from 0 to 1, got {self.max_rejected!r}. Try {Bounds.max_rejected}."
            )


@dataclass(frozen=True, kw_only=True)
class Asked(Bounds):
    """Which bins to bring in, and how far to go.

    Attributes:
        source: "s3://BUCKET" or a folder in the bucket's layout.
        ids: A file of ids or a range such as "00001-01999"; None lists the source.
        counts: Which counts are wanted, such as "1-5" or "0-5+".
        limit: How many bins to draw, None for all.
        seed: What the draw depends on.

    Raises:
        ConfigError: If a value is wrong; the message names it.
    """

    source: str
    ids: str | None = None
    counts: str = "1-5"
    limit: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        Counts.parse(self.counts)
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"--limit: must be 1 or more, got {self.limit!r}. Leave it out for all bins.")
