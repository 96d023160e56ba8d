"""What an ingest was asked for, and the folder in which it works."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bincount.dataset.manifest import Manifest
from bincount.dataset.rejection import Rejection, count_reasons
from bincount.dataset.shards import is_whole
from bincount.errors import ConfigError, DataError
from bincount.files import digest_of, explain_disk_errors, read_json, set_aside, write_json
from bincount.locks import exclusive_lock
from bincount.settings import Settings

# Another number makes every shard and plan a new one.
FORMAT = 1


@dataclass(frozen=True)
class IngestRequest:
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
class IngestJob:
    """The folder of one request, where an ingest that was stopped goes on."""

    folder: Path

    @classmethod
    def of(cls, settings: Settings, name: str) -> IngestJob:
        """The folder of the request of that name.

        Raises:
            ConfigError: If `name` is no request's name.
        """
        if not (name.isalnum() and name.isascii()):
            raise ConfigError(f"--plan: must be letters and digits, got {name!r}. Take it from `bincount plan`.")
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

    def write_request(self, request: IngestRequest) -> None:
        """Notes what was asked for, for the workers that fetch a share of it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "request.json", asdict(request))

    def read_request(self) -> IngestRequest:
        """Reads what was asked for.

        Raises:
            ConfigError: If nothing was planned here.
        """
        found = read_json(self.folder / "request.json")
        if found is None:
            raise ConfigError(f"--plan: must be planned first, got {self.folder.name!r}. Run `bincount plan` before.")
        return IngestRequest(**found)

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
            with explain_disk_errors(self.folder.parents[1]), exclusive_lock(self.folder / f"{what}.lock", what):
                yield
        except DataError:
            self.doubt.touch()
            raise


# What a workspace needs besides: manifest, features of a first run, logs.
_SPARE_BYTES = 200_000_000


def check_rejected(rejected: Sequence[Rejection], bins: int, max_rejected: float) -> None:
    """Checks that few enough bins are faulty.

    Args:
        rejected: What was set aside; siblings do not count.
        bins: Number of bins that they are a share of, themselves included.
        max_rejected: Largest share, 0 to 1.

    Raises:
        DataError: If more are; the message shows the reasons by frequency.
    """
    faulty = [one for one in rejected if one.is_fault]
    if len(faulty) > max_rejected * bins:
        reasons = ", ".join(f"{count} x {reason}" for reason, count in count_reasons(faulty).items())
        check_share(len(faulty), bins, max_rejected, f"{reasons}; the first is {faulty[0].id!r}")


def check_share(faulty: int, bins: int, max_rejected: float, which: str) -> None:
    """Checks a number of faulty bins against the largest share of all bins.

    Raises:
        DataError: If it is larger; the message says `which` they are.
    """
    if faulty > max_rejected * bins:
        raise DataError(
            f"--max-rejected: at most {max_rejected:.2%} of {bins:,} bins may be faulty, got {faulty:,}: {which}. "
            "Nothing was published; mend the bucket, or raise --max-rejected."
        )


def check_room(folder: Path, needed_bytes: int) -> None:
    """Checks that the disk has room for what will be fetched.

    Raises:
        ConfigError: If it has not.
    """
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes + _SPARE_BYTES:
        raise ConfigError(
            f"{folder}: must have room for {(needed_bytes + _SPARE_BYTES) / 1e9:.1f} GB, "
            f"got {free_bytes / 1e9:.1f} GB. "
            "Free some, take fewer bins with --limit, or move BINCOUNT_WORKSPACE to a larger disk."
        )


def find_finished(settings: Settings, request: str, max_rejected: float) -> dict[str, Any] | None:
    """The summary of a request that was published and is whole, None where it is not.

    Raises:
        DataError: If more of its bins are faulty than are allowed this time.
    """
    done = IngestJob.of(settings, request).read_done()
    path = settings.manifests / f"{done['manifest']}.jsonl" if done else None
    if done is None or path is None or not path.is_file():
        return None
    try:
        shards = Manifest.read(settings.manifests, done["manifest"]).shards
    except DataError:
        set_aside(path)
        return None
    if not all(is_whole(settings, shard) for shard in shards):
        return None
    check_share(done["rejected"], done["bins"] + done["rejected"], max_rejected, f"see {done['manifest']}.rejected.csv")
    return done
