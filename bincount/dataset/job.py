"""An ingest job: what identifies it, its folder on disk, and the limits within which it is published."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bincount.dataset.manifest import Shard, read_manifest
from bincount.dataset.rejection import Rejection, count_reasons
from bincount.dataset.shards import is_whole
from bincount.errors import ConfigError, DataError
from bincount.files import digest_of, explain_disk_errors, read_json, rename_damaged, write_json
from bincount.settings import Settings
from bincount.store.workspace import Workspace, open_workspace

# Another number makes every shard and plan a new one.
FORMAT = 1


@dataclass(frozen=True)
class JobSpec:
    """Specification of an ingest job: the same specification has the same name.

    The largest share of faulty bins is not part of it: it decides whether the result is published and not its content.

    Attributes:
        source: The store's name.
        candidates: Digest of the bins to choose from.
        counts: The requested counts, such as "1-5".
        limit: How many bins to draw, None for all.
        seed: Seed of the draw, None where nothing is drawn.
        other_counts: Whether bins with other counts are fetched to learn from.
    """

    source: str
    candidates: str
    counts: str
    limit: int | None
    seed: int | None
    other_counts: bool = False

    @property
    def name(self) -> str:
        """The name of the job's folder."""
        facts = asdict(self)
        if not self.other_counts:
            del facts["other_counts"]
        return digest_of({"format": FORMAT, **facts})


@dataclass(frozen=True)
class IngestJob:
    """The folder of one ingest job, from which an interrupted ingest resumes.

    Attributes:
        folder: The folder.
        shared: The workspace that it is in.
    """

    folder: Path
    shared: Workspace

    @classmethod
    def of(cls, settings: Settings, name: str) -> IngestJob:
        """The folder of the job of that name.

        Raises:
            ConfigError: If `name` is not the name of a job.
        """
        if not (name.isalnum() and name.isascii()):
            raise ConfigError(f"--plan: must be letters and digits, got {name!r}. Take it from `bincount plan`.")
        return cls(settings.ingests / name, open_workspace(settings))

    @property
    def journal(self) -> Path:
        """Metadata that were read."""
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
    def retry_marker(self) -> Path:
        """Exists after an attempt with too many faulty bins; the next one fetches those again."""
        return self.folder / "retry"

    @property
    def _request(self) -> Path:
        return self.folder / "request.json"

    def write_spec(self, spec: JobSpec) -> None:
        """Writes the specification for the workers that fetch."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self._request, asdict(spec))
        self.shared.push(self._request)

    def read_spec(self) -> JobSpec:
        """Reads the specification.

        Raises:
            ConfigError: If nothing was planned here.
        """
        self.shared.pull(self._request)
        document = read_json(self._request)
        if document is None:
            raise ConfigError(f"--plan: must be planned first, got {self.folder.name!r}. Run `bincount plan` before.")
        return JobSpec(**document)

    def read_done(self) -> dict[str, Any] | None:
        """The summary of the finished ingest, None where it is not finished."""
        self.shared.pull(self.done)
        return read_json(self.done)

    @contextlib.contextmanager
    def locked(self, step: str) -> Iterator[None]:
        """Makes a second process wait that runs the same step of the same job.

        After a `DataError` the retry marker is written: the next attempt fetches faulty bins again.

        Raises:
            ConfigError: If the workspace cannot be written.
        """
        try:
            lock = self.shared.lock(self.folder / f"{step}.lock", step)
            with explain_disk_errors(self.folder.parents[1]), lock:
                self.shared.pull_folder(self.folder)
                yield
        except DataError:
            self.retry_marker.touch()
            self.shared.push(self.retry_marker)
            raise


# Room for the manifest, the features of a first run and logs.
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
        check_rejected_share(len(faulty), bins, max_rejected, f"{reasons}; the first is {faulty[0].id!r}")


def check_rejected_share(faulty: int, bins: int, max_rejected: float, which: str) -> None:
    """Checks a number of faulty bins against the largest share of all bins.

    Raises:
        DataError: If it is larger; the message names them by `which`.
    """
    if faulty > max_rejected * bins:
        raise DataError(
            f"--max-rejected: at most {max_rejected:.2%} of {bins:,} bins may be faulty, got {faulty:,}: {which}. "
            "Nothing was published; repair the bucket, or raise --max-rejected."
        )


def check_disk_space(folder: Path, needed_bytes: int) -> None:
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


class FinishedIngest(NamedTuple):
    """A published ingest: its summary, as `ingest` returns it, and its shards."""

    summary: dict[str, Any]
    shards: Sequence[Shard]


def find_finished_ingest(settings: Settings, name: str, max_rejected: float) -> FinishedIngest | None:
    """Finds the published result of a job, None where there is none or a file of it is missing or damaged.

    Args:
        settings: Names the workspace.
        name: The job's name.
        max_rejected: Largest share of faulty bins, 0 to 1.

    Raises:
        DataError: If more of its bins are faulty.
    """
    summary = IngestJob.of(settings, name).read_done()
    path = settings.manifests / f"{summary['manifest']}.jsonl" if summary else None
    if summary is None or path is None:
        return None
    open_workspace(settings).pull(path)
    if not path.is_file():
        return None
    try:
        shards = read_manifest(settings, summary["manifest"]).shards
    except DataError:
        rename_damaged(path)
        return None
    if not all(is_whole(settings, shard) for shard in shards):
        return None
    table = f"see {summary['manifest']}.rejected.csv"
    check_rejected_share(summary["rejected"], summary["bins"] + summary["rejected"], max_rejected, table)
    return FinishedIngest(summary, shards)
